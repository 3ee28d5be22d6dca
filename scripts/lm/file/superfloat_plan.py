"""Which tensors of a model become SFx, of which width, and the model with those numbers in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lm.arch.ternary import BitLinear
from lm.file import gguf_layout, superfloat
from lm.file.superfloat import Numbers


@dataclass(frozen=True)
class Choice:
    """What a tensor is stored as: see superfloat.quantize."""

    bits: int
    scaled: bool = True
    clip: bool = True


Plan = dict[str, Choice]  # GGUF tensor -> its choice


def targets(model: nn.Module) -> dict[str, str]:
    """GGUF tensor -> parameter, of all that may be SFx: embedding, norms, and matrices that are not ternary."""
    if model.config.architecture == "bitnet":
        raise ValueError("SFx is for hgrnbit, hnetbit and bitmamba2; bitnet has its own formats (models/FORMAT.md)")
    found = {}
    for name, parameter, kind in gguf_layout.rows(model, bounded=False):
        if kind == "ternary":
            if not model.get_submodule(parameter).ternary:
                found[f"{name}.weight"] = f"{parameter}.weight"
            found[f"{name}.in_norm.weight"] = f"{parameter}.norm.weight"
        elif kind == "embedding":
            found[f"{name}.weight"] = parameter
        elif name.endswith("norm.weight"):
            found[name] = parameter
    return found


def one_width(model: nn.Module, bits: int, scaled: bool = True, clip: bool = True) -> Plan:
    superfloat.check_width(bits)
    return {name: Choice(bits, scaled, clip) for name in targets(model)}


def quantize(model: nn.Module, plan: Plan) -> dict[str, Numbers]:
    """Every tensor of the plan, each number the nearest there is."""
    parameters, names = dict(model.named_parameters()), targets(model)
    return {
        name: superfloat.quantize(parameters[names[name]].detach().numpy(), choice.bits, choice.scaled, choice.clip)
        for name, choice in plan.items()
    }


def refuse_clamping(model: nn.Module, plan: Plan) -> None:
    """ValueError names the tensor without scales that loses most to the ends of the range."""
    parameters, names = dict(model.named_parameters()), targets(model)
    worst, which = 0.0, ""
    for name, choice in plan.items():
        if not choice.scaled:
            share = superfloat.share_clamped(parameters[names[name]].detach().numpy(), choice.bits)
            worst, which = max((worst, which), (share, name))
    if worst > 0:
        size = float(parameters[names[which]].abs().max())
        raise ValueError(
            f"{which} reaches {size:.3g}, but SFx without a row scale ends at 1: {worst:.1%} of its numbers would be clamped. "
            "Let it have scales (leave out --no-row-scale), or say --clamp if that is what you want to see"
        )


@torch.no_grad()
def put(model: nn.Module, stored: dict[str, Numbers]) -> None:
    """Gives the model the stored numbers, and inputs of int8 to its matrices: from here on it computes as the engine does."""
    parameters, names = dict(model.named_parameters()), targets(model)
    for name, numbers in stored.items():
        parameter = parameters[names[name]]
        parameter.copy_(torch.from_numpy(numbers.values).reshape(parameter.shape))
    as_in_the_engine(model, set(stored))


def as_in_the_engine(model: nn.Module, stored: set[str]) -> None:
    """Inputs of matrices become int8, and an embedding that is stored as SFx is not rounded once more."""
    model.embeddings.exact = model.embeddings.exact or "token_embd.weight" in stored
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.rounds = True


@contextmanager
def with_numbers(model: nn.Module, stored: dict[str, Numbers]) -> Iterator[None]:
    """Inside, the model has the stored numbers (its inputs stay as they are); then its own again."""
    parameters, names = dict(model.named_parameters()), targets(model)
    own: dict[str, Tensor] = {name: parameters[names[name]].detach().clone() for name in stored}
    try:
        with torch.no_grad():
            for name, numbers in stored.items():
                parameter = parameters[names[name]]
                parameter.copy_(torch.from_numpy(numbers.values).reshape(parameter.shape))
        yield
    finally:
        with torch.no_grad():
            for name, value in own.items():
                parameters[names[name]].copy_(value)


def rest_bytes(model: nn.Module) -> int:
    """Of what is never SFx: taps of convolutions and bounds, 4 bytes a number, and ternary matrices as TQ1_0."""
    kept, size = set(targets(model).values()), 0
    for name, parameter in model.named_parameters():
        if name not in kept:
            rows, cols = (parameter.shape[0], parameter.shape[-1]) if parameter.dim() > 1 else (1, parameter.numel())
            ternary = name.endswith(".weight") and isinstance(model.get_submodule(name[:-7]), BitLinear)
            size += rows * -(-cols // 256) * 54 if ternary else 4 * parameter.numel()
    return size + sum(4 * keep.numel() for keep in gguf_layout.keep_of_blocks(model).values() if bool((keep < 1).any()))


def model_bytes(model: nn.Module, stored: dict[str, Numbers]) -> int:
    """About what the file has, without its header."""
    return rest_bytes(model) + sum(numbers.bytes for numbers in stored.values())


def bits_per_weight(stored: dict[str, Numbers]) -> float:
    return 8 * sum(n.bytes for n in stored.values()) / sum(np.size(n.codes) for n in stored.values())
