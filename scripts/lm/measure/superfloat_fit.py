"""SFx matrices fitted to a text: each one gives, of what the stored model feeds it, what the original's gave of its own inputs.

In the order of the network, each matrix is first refitted (the least squares of its outputs over the text, of inputs that carry
the errors of everything before it), then rounded so that its sums move least (superfloat.Rounding). No gradients, one pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lm.arch.ternary import quantize_activation
from lm.file import superfloat, superfloat_plan
from lm.file.superfloat import DAMPING, Numbers, Rounding
from lm.file.superfloat_plan import Plan
from lm.text.encoding import BOS

CONTEXT = 1024  # tokens of the pieces that a text is cut into, each read from nothing


class _EnoughError(Exception):
    """What is after the last watched layer need not be computed."""


@torch.no_grad()
def _inputs(
    model: nn.Module, layers: dict[str, str], pieces: Tensor, take: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Tensor name -> its layer's normed inputs [tokens, cols], in the order in which the model comes by."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(module, x, y):
            seen[name] = take(y).flatten(0, -2)
            if len(seen) == len(layers):
                raise _EnoughError

        return hook

    hooks = [model.get_submodule(layer).norm.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        model(pieces)
    except _EnoughError:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def fit(model: nn.Module, plan: Plan, tokens: np.ndarray, progress=iter) -> dict[str, Numbers]:
    """Numbers of the plan's choices, of a flat model; the model then computes with them, as after superfloat_plan.put.

    tokens: [T] bytes, T at least 1024; their inputs to all matrices are kept in memory.
    """
    if model.config.architecture == "hnetbit":
        raise ValueError("only flat models are fitted: two hierarchical ones cut a text into different chunks")
    if len(tokens) < CONTEXT:
        raise ValueError(f"fitting needs a text of at least {CONTEXT} bytes, got {len(tokens)}")
    pieces = torch.from_numpy(tokens[: len(tokens) // CONTEXT * CONTEXT].astype(np.int64)).reshape(-1, CONTEXT)
    pieces = torch.cat((torch.full((len(pieces), 1), BOS), pieces[:, :-1]), 1)
    parameters, names = dict(model.named_parameters()), superfloat_plan.targets(model)
    layers = {name: names[name].removesuffix(".weight") for name in plan if parameters[names[name]].dim() > 1}
    layers = {name: layer for name, layer in layers.items() if hasattr(model.get_submodule(layer), "norm")}
    wanted = _inputs(model, layers, pieces, lambda y: y)
    stored = superfloat_plan.quantize(model, {name: choice for name, choice in plan.items() if name not in layers})
    superfloat_plan.put(model, stored)
    for name in progress(list(wanted)):
        found = _inputs(model, {name: layers[name]}, pieces, quantize_activation)[name]
        moments, shared = (np.asarray((x.T @ found).double()) for x in (found, wanted.pop(name)))
        pull = DAMPING * np.trace(moments) / len(moments) * np.eye(len(moments))  # to the weights as they are
        weights = parameters[names[name]].detach().numpy().astype(np.float64)
        refitted = np.linalg.solve(moments + pull, (weights @ (shared + pull)).T).T.astype(np.float32)
        choice = plan[name]
        stored[name] = superfloat.quantize(refitted, choice.bits, choice.scaled, choice.clip, Rounding(moments))
        superfloat_plan.put(model, {name: stored[name]})
    return {name: stored[name] for name in plan}
