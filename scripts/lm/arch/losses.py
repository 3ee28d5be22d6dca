"""What training minimises: the cross entropy of the text, and the distance to a teacher's predictions where there is one."""

from dataclasses import dataclass
from math import log

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Lesson:
    """What a teacher says about a window.

    logits [B,T,V]: the teacher's; weight: its share of the loss, 0 to 1; temperature: both predictions are softened by it.
    """

    logits: Tensor
    weight: float
    temperature: float


def divergence(logits: Tensor, lesson: Lesson) -> Tensor:
    """Mean KL(teacher || student) per byte in nats, at the temperature; logits [B,T,V] of the student."""
    student = F.log_softmax(logits.float() / lesson.temperature, -1)
    teacher = F.log_softmax(lesson.logits.float() / lesson.temperature, -1)
    return F.kl_div(student.flatten(0, 1), teacher.flatten(0, 1), reduction="batchmean", log_target=True)


def byte_loss(
    logits: Tensor, targets: Tensor, lesson: Lesson | None = None, cross_entropy=F.cross_entropy
) -> tuple[Tensor, dict]:
    """logits [B,T,V], targets [B,T] -> the loss, and statistics: "nats" per byte of the text, whatever is minimised.

    With a lesson the loss is (1 - weight) nats + weight temperature^2 KL (Hinton et al. 2015, arXiv 1503.02531: the
    square keeps the size of the gradient the same at every temperature), and "teacher_bits" is KL in bits per byte.
    """
    nats = cross_entropy(logits.float().flatten(0, 1), targets.flatten())
    if lesson is None:
        return nats, {"nats": nats.detach()}
    distance = divergence(logits, lesson)
    loss = (1 - lesson.weight) * nats + lesson.weight * lesson.temperature**2 * distance
    return loss, {"nats": nats.detach(), "teacher_bits": distance.detach() / log(2)}
