"""Training what SFx made worse, on the numbers it leaves: WASQ OPT, FPM, and the lottery ticket.

Source: aloshdenny/superfloat.  Its methods: OPT trains only the weights that left the range or whose rounding error is large,
FPM (full-parameter) all of them; a lottery ticket are the layers whose activations deviate most.  Different here: the scales
of the rows stay as they were at the beginning, the forward pass has the rounded numbers and the gradient passes them
straight through, as it does in ternary training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lm.file import superfloat_plan
from lm.file.superfloat import Numbers
from lm.file.superfloat_plan import Plan
from lm.text.data import Stream

ERROR = 0.05  # OPT trains what rounding moves by more than this, in root mean squares of its tensor


@dataclass
class Grid:
    """The numbers that a tensor may have: SFx with these scales."""

    bits: int
    scales: Tensor | None  # [rows, 1]

    @staticmethod
    def of(numbers: Numbers) -> Grid:
        scales = None if numbers.scales is None else torch.from_numpy(numbers.scales.astype(np.float32))[:, None]
        return Grid(numbers.bits, scales)

    def codes(self, w: Tensor) -> Tensor:
        """[rows, cols] -> integers, as float32."""
        most = 2 ** (self.bits - 1) - 1
        w = w if self.scales is None else w / torch.where(self.scales > 0, self.scales, torch.ones(()))
        return (w * 2.0 ** (self.bits - 1)).round_().clamp_(-most, most)

    def rounded(self, w: Tensor) -> Tensor:
        value = self.codes(w) * 2.0 ** (1 - self.bits)
        return value if self.scales is None else value * self.scales

    def numbers(self, w: Tensor) -> Numbers:
        codes = self.codes(w).numpy().astype(np.int32)
        return Numbers(codes, self.bits, None if self.scales is None else self.scales[:, 0].numpy())


def opt_mask(w: Tensor, grid: Grid, error: float = ERROR) -> Tensor:
    """[rows, cols] -> what left the range, or what rounding moves by more than `error` root mean squares."""
    most = 1 - 2.0 ** (1 - grid.bits)
    limit = most if grid.scales is None else most * grid.scales
    return (w.abs() > limit) | ((w - grid.rounded(w)).abs() > error * w.square().mean().sqrt())


Mask = Callable[[str, Tensor, Grid], Tensor | bool]  # of a tensor: what of it is trained


def everything(name: str, w: Tensor, grid: Grid) -> bool:
    return True


def opt(name: str, w: Tensor, grid: Grid) -> Tensor:
    return opt_mask(w, grid)


def ticket(names: Iterable[str]) -> Mask:
    """The layers of these names, wholly, with the norms inside them."""
    chosen = {*names, *(name.removesuffix("weight") + "in_norm.weight" for name in names)}
    return lambda name, w, grid: name in chosen


def tune(
    model: nn.Module,
    plan: Plan,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    lr: float,
    trained: Mask,
    others: bool,
    clip: float = 1.0,
) -> tuple[dict[str, Numbers], float]:
    """Trains `steps` batches (inputs, targets [B,T]) with the learning rate falling to 0 -> what to store, share trained.

    others: whether what the plan does not name (taps, bounds) is trained as well. The model then computes with the result.
    """
    names = superfloat_plan.targets(model)
    parameters = dict(model.named_parameters())
    stored = superfloat_plan.quantize(model, plan)
    grids = {name: Grid.of(numbers) for name, numbers in stored.items()}
    shape = {name: stored[name].codes.shape for name in plan}
    masters = {name: parameters[names[name]].detach().clone().reshape(shape[name]) for name in plan}
    masks = {name: torch.as_tensor(trained(name, w, grids[name])) for name, w in masters.items()}
    count = sum(int(mask.expand(shape[name]).sum()) for name, mask in masks.items())
    share = count / max(sum(w.numel() for w in masters.values()), 1)
    steps = steps if count else 0  # nothing would move
    superfloat_plan.as_in_the_engine(model, set(plan))
    planned = {names[name] for name in plan}
    free = [p for name, p in parameters.items() if name not in planned] if others else []
    optimizer = torch.optim.AdamW([*masters.values(), *free], lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    states = None
    for step, (inputs, targets) in zip(range(steps), batches):
        with torch.no_grad():
            for name, w in masters.items():
                parameters[names[name]].copy_(grids[name].rounded(w).reshape(parameters[names[name]].shape))
        model.zero_grad(set_to_none=True)
        loss, states, _ = model.loss(inputs, targets, states)
        loss.backward()
        states = [tuple(part.detach() for part in layer) for layer in states]
        for name, w in masters.items():
            gradient = parameters[names[name]].grad
            w.grad = None if gradient is None else gradient.reshape(shape[name]) * masks[name]
        nn.utils.clip_grad_norm_([*masters.values(), *free], clip)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimizer.step()
    made = {name: grids[name].numbers(w) for name, w in masters.items()}
    superfloat_plan.put(model, made)
    return made, share


def batches_of(paths: list[str], batch: int, length: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (inputs, targets) [batch, length] of texts of bytes."""
    return Stream(paths, batch, length, seed).batches(0)
