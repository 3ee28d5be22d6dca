"""What SFx does to a model: bits per byte by width and context, the layers that deviate, and widths that cost the least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.ternary import BitLinear
from lm.file import gguf_layout, superfloat, superfloat_plan
from lm.file.superfloat_plan import Choice, Plan
from lm.text.encoding import BOS

SEARCHED = (3, 4, 5, 6, 7, 8, 10, 12)  # widths that a search tries
PART = 2048  # tokens of a forward pass


# ---- bits per byte


@torch.no_grad()
def logits_of(model: nn.Module, tokens: np.ndarray) -> Tensor:
    """[T] bytes -> [T, V] log probabilities of each byte after all before it, BOS first."""
    stream = torch.from_numpy(np.concatenate(([BOS], tokens[:-1])).astype(np.int64))
    states, found = None, []
    for part in stream.split(PART):
        logits, states = model(part[None], states)
        found.append(logits[0].log_softmax(-1))
    return torch.cat(found)


def bits_of(log_probabilities: Tensor, tokens: np.ndarray) -> float:
    chosen = F.nll_loss(log_probabilities, torch.from_numpy(tokens.astype(np.int64)))
    return float(chosen) / math.log(2)


def bits_per_byte(model: nn.Module, tokens: np.ndarray) -> float:
    return bits_of(logits_of(model, tokens), tokens)


@torch.no_grad()
def bits_in_contexts(model: nn.Module, tokens: np.ndarray, context: int) -> float:
    """Bits per byte where the text is cut into pieces of so many bytes, each read from nothing."""
    pieces = torch.from_numpy(tokens[: len(tokens) // context * context].astype(np.int64)).reshape(-1, context)
    if not len(pieces):
        raise ValueError(f"a text of {len(tokens)} bytes has no piece of {context}")
    inputs = torch.cat((torch.full((len(pieces), 1), BOS), pieces[:, :-1]), 1)
    rows = max(1, PART * 4 // context)
    nats = [
        F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten(), reduction="sum")
        for x, y in zip(inputs.split(rows), pieces.split(rows))
    ]
    return float(sum(nats)) / pieces.numel() / math.log(2)


# ---- the layers that deviate


@contextmanager
def _watching(model: nn.Module, seen: dict[str, Tensor]):
    hooks = []
    for name, parameter, kind in gguf_layout.rows(model, bounded=False):
        if kind == "ternary":
            keep = lambda module, x, y, name=name: seen.__setitem__(name, y.detach()[0])  # noqa: E731
            hooks.append(model.get_submodule(parameter).register_forward_hook(keep))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Layer:
    """A layer's output [T, rows]: mean magnitude in the original and in SFx, and the mean |difference| over the former."""

    name: str
    original: float
    quantised: float
    deviation: float
    cluster: int = 0  # 0: those that deviate most


@torch.no_grad()
def analyse(model: nn.Module, plan: Plan, tokens: np.ndarray, clusters: int = 3) -> list[Layer]:
    """The layers, those that deviate most first. tokens: [T] bytes, T at most 2048."""
    inputs = torch.from_numpy(np.concatenate(([BOS], tokens[: PART - 1])).astype(np.int64))[None]
    before: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    with _watching(model, before):
        model(inputs)
    with superfloat_plan.with_numbers(model, superfloat_plan.quantize(model, plan)), _watching(model, after):
        model(inputs)
    layers = []
    for name, value in before.items():
        size = float(value.abs().mean())
        layers.append((float((after[name] - value).abs().mean()) / max(size, 1e-12), name, size))
    layers.sort(reverse=True)
    groups = cluster([deviation for deviation, _, _ in layers], clusters)
    return [
        Layer(name, size, float(after[name].abs().mean()), deviation, group)
        for (deviation, name, size), group in zip(layers, groups)
    ]


def cluster(deviations: Sequence[float], count: int) -> list[int]:
    """Falling numbers -> the cluster of each: of all cuts into `count` runs the one with the least squared distances of logs."""
    logs = np.log(np.maximum(deviations, 1e-12))
    n, count = len(logs), min(count, len(logs))
    squares = np.concatenate(([0.0], np.cumsum(logs**2)))
    sums = np.concatenate(([0.0], np.cumsum(logs)))

    def spread(a: int, b: int) -> float:
        return float(squares[b] - squares[a] - (sums[b] - sums[a]) ** 2 / (b - a))

    best = [[math.inf] * (n + 1) for _ in range(count + 1)]
    cut = [[0] * (n + 1) for _ in range(count + 1)]
    best[0][0] = 0.0
    for k in range(1, count + 1):
        for b in range(k, n + 1):
            best[k][b], cut[k][b] = min((best[k - 1][a] + spread(a, b), a) for a in range(k - 1, b))
    groups, b = [0] * n, n
    for k in range(count, 0, -1):
        groups[cut[k][b] : b] = [k - 1] * (b - cut[k][b])
        b = cut[k][b]
    return groups


# ---- widths that cost the least


Group = tuple[str, ...]  # tensors that have one width: all norms, or one other tensor


def groups_of(model: nn.Module) -> list[Group]:
    names = list(superfloat_plan.targets(model))
    norms = tuple(name for name in names if name.endswith("norm.weight"))
    return [*((name,) for name in names if name not in norms), *((norms,) if norms else ())]


@dataclass(frozen=True)
class Costs:
    """Of each group and width: bytes, and how far its predictions are from the original's (bits per byte, KL divergence)."""

    size: dict[Group, dict[int, int]]
    distance: dict[Group, dict[int, float]]
    rest: int  # bytes of what is never SFx


@torch.no_grad()
def measure_costs(
    model: nn.Module, tokens: np.ndarray, widths: Sequence[int] = SEARCHED, scaled: bool = True, progress=iter
) -> Costs:
    """One group and one width at a time; the rest of the model stays as it is."""
    own = logits_of(model, tokens)
    size: dict[Group, dict[int, int]] = {}
    distance: dict[Group, dict[int, float]] = {}
    for group in progress(groups_of(model)):
        size[group], distance[group] = {}, {}
        for bits in widths:
            stored = superfloat_plan.quantize(model, dict.fromkeys(group, Choice(bits, scaled)))
            size[group][bits] = sum(numbers.bytes for numbers in stored.values())
            with superfloat_plan.with_numbers(model, stored):
                found = logits_of(model, tokens)
            nats = float((own.exp() * (own - found)).sum(-1).double().mean())
            distance[group][bits] = max(nats, 0.0) / math.log(2)
    return Costs(size, distance, superfloat_plan.rest_bytes(model))


def widths_for(costs: Costs, price: float) -> dict[Group, int]:
    """What is best where a byte costs `price` bits per byte: each group by itself, since small distances add up."""
    return {
        group: min(sizes, key=lambda bits: (costs.distance[group][bits] + price * sizes[bits], bits))
        for group, sizes in costs.size.items()
    }


def size_of(costs: Costs, widths: dict[Group, int]) -> int:
    return costs.rest + sum(costs.size[group][bits] for group, bits in widths.items())


def fronts(costs: Costs) -> list[dict[Group, int]]:
    """Every choice that is best for some price, the smallest first."""
    found: dict[int, dict[Group, int]] = {}
    for price in np.geomspace(1e-12, 1e-2, 400):
        widths = widths_for(costs, float(price))
        found.setdefault(size_of(costs, widths), widths)
    return [found[size] for size in sorted(found)]


def plan_of(widths: dict[Group, int], scaled: bool = True) -> Plan:
    return {name: Choice(bits, scaled) for group, bits in widths.items() for name in group}


def smallest(model: nn.Module, costs: Costs, tokens: np.ndarray, budget: float) -> tuple[Plan, float]:
    """The smallest choice that loses at most `budget` bits per byte, measured, and what it loses.

    ValueError when no width does.
    """
    own = bits_per_byte(model, tokens)
    choices = fronts(costs)

    def loss(widths: dict[Group, int]) -> float:
        with superfloat_plan.with_numbers(model, superfloat_plan.quantize(model, plan_of(widths))):
            return bits_per_byte(model, tokens) - own

    low, high = 0, len(choices) - 1
    found = loss(choices[high])
    if found > budget:
        raise ValueError(
            f"no width meets a budget of {budget:g} bits per byte: the widest, {size_of(costs, choices[high]):,} bytes, loses "
            f"{found:.5f}; allow that much, or train what is stored (--method fpm)"
        )
    while low < high:
        middle = (low + high) // 2
        here = loss(choices[middle])
        if here <= budget:
            high, found = middle, here
        else:
            low = middle + 1
    return plan_of(choices[high]), found


def within(costs: Costs, size: int) -> Plan:
    """The choice that is nearest to the original and has at most `size` bytes. ValueError when nothing is as small."""
    fitting = [widths for widths in fronts(costs) if size_of(costs, widths) <= size]
    if not fitting:
        least = size_of(costs, {group: min(sizes) for group, sizes in costs.size.items()})
        raise ValueError(
            f"no width makes a file of {size:,} bytes: SF{superfloat.WIDTHS[0]} everywhere takes {least:,}; allow that much, or "
            "train a smaller model"
        )
    return plan_of(max(fitting, key=lambda widths: size_of(costs, widths)))


def rounds_inputs(model: nn.Module) -> bool:
    return all(module.rounds for module in model.modules() if isinstance(module, BitLinear))
