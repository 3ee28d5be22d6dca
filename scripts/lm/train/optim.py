"""Muon for the ternary matrices of the blocks, AdamW for everything else, and the schedule of both.

Source: Muon (Keller Jordan et al., 2024): the momentum of a matrix is replaced by the nearest orthogonal one, by five
Newton-Schulz steps.  Different here: the decay of the masters is tied to the learning rate of their own group.
"""

import math

import torch
from torch import Tensor, nn

from lm.arch.ternary import BitLinear


def orthogonalize(g: Tensor, steps: int = 5) -> Tensor:
    """[m, n] -> a matrix with the same singular vectors and singular values near 1 (quintic Newton-Schulz).

    Each step is x <- p x with p a polynomial of the Gram matrix x x'.  p commutes with it, so that for a long matrix
    the steps are taken on the Gram matrix, which is small, and x is multiplied once at the end.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g if g.shape[0] <= g.shape[1] else g.t()
    x = x / (x.norm() + 1e-7)
    if x.shape[1] < 2 * x.shape[0]:
        for _ in range(steps):
            gram = x @ x.t()
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        gram, product = x @ x.t(), None
        for step in range(steps):
            p = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            p.diagonal().add_(a)
            product = p if product is None else p @ product
            if step + 1 < steps:
                gram = p @ gram @ p
        x = product @ x
    return x if g.shape[0] <= g.shape[1] else x.t()


class Muon(torch.optim.Optimizer):
    """`orthogonalize_all` (matrices -> list of matrices, or None where it cannot) goes before `orthogonalize`."""

    def __init__(self, params, lr: float, momentum: float, weight_decay: float, orthogonalize_all=lambda _: None):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.orthogonalize_all = orthogonalize_all

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            moving = []
            for p in learning:
                average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                moving.append(p.grad.lerp(average, group["momentum"]))
            for p, update in zip(learning, self.orthogonalize_all(moving) or map(orthogonalize, moving)):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def ternary_matrices(model: nn.Module) -> list[Tensor]:
    """The master weights of every BitLinear but the head."""
    linears = [m for m in model.modules() if isinstance(m, BitLinear) and m is not model.lm_head]
    return [linear.weight for linear in linears]


def parameter_groups(model: nn.Module, chosen, lr: float, weight_decay: float) -> list[dict]:
    """The parameters that `chosen(parameter)` accepts, grouped by the model's `lr_multiplier` where it has one."""
    multiplier = getattr(model, "lr_multiplier", lambda name: 1.0)
    groups: dict[float, list] = {}
    for name, parameter in model.named_parameters():
        if chosen(parameter):
            groups.setdefault(multiplier(name), []).append(parameter)
    return [{"params": ps, "lr": lr * factor, "weight_decay": weight_decay} for factor, ps in groups.items()]


def make_optimizers(model: nn.Module, train) -> list[torch.optim.Optimizer]:
    """The ternary matrices go to Muon, or with their own weight decay to AdamW, which has the rest in any case.

    A model that cpu_kernels.accelerate has seen brings Muon's steps with it.
    """
    matrices = {id(p) for p in ternary_matrices(model)}
    muon = train.matrix_optimizer == "muon"
    rest = parameter_groups(model, lambda p: id(p) not in matrices, train.lr, 0.0)
    rate, decay = train.matrix_lr if muon else train.lr, train.matrix_weight_decay
    inside = parameter_groups(model, lambda p: id(p) in matrices, rate, decay)
    optimizers = [torch.optim.AdamW(rest if muon else rest + inside, betas=(0.9, 0.98))]
    if muon:
        fast = {"orthogonalize_all": model.orthogonalize_all} if hasattr(model, "orthogonalize_all") else {}
        optimizers.append(Muon(inside, rate, momentum=0.95, weight_decay=decay, **fast))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def schedule(bytes_seen: int, train) -> float:
    """The factor on every learning rate: linear warm-up, then constant with a linear end (wsd) or half a cosine.

    wsd: warm-up, stable, decay (arXiv 2404.06395), where one stable run serves ends of several lengths.
    """
    left = max(train.total_bytes - bytes_seen, 0)
    warm = min(1.0, (bytes_seen + 1) / max(train.warmup, 1))
    if train.schedule == "wsd":
        late = min(1.0, left / max(train.decay, 1))
    else:
        late = (1 - math.cos(math.pi * min(1.0, left / max(train.total_bytes - train.warmup, 1)))) / 2
    return min(warm, train.final_factor + (1 - train.final_factor) * late)
