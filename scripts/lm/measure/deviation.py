"""Where integers and float differ: every operation of every part, from equal inputs and in a run of its own.

Three questions, for the operations that `tern_trace` writes out:
  alone         PyTorch computes the operation from the engine's inputs: what this operation alone adds
  accumulated   PyTorch computes everything: what has come together at this point
  effect        PyTorch computes everything, and the deviation of this operation alone is added to its results in all
                blocks: what it does to the logits and to the bits per byte
Small deviations do not fade: now and then one moves an activation to the next int8 code, a step of 1/127 of the largest
activation, and that moves others. The control row says how much of an effect comes from float32 itself: PyTorch with
its norms off by one rounding of float32. An operation matters if its effect is clearly above that.
A hierarchical model begins its chunks where the engine does, so that rows can be compared.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm import ROOT
from lm.arch.observed import Feed, observing
from lm.file import gguf_file
from lm.text import codec
from lm.text.data import read_text
from lm.text.encoding import BOS
from lm.text.tables import markdown

TRACE = ROOT / "build" / "native" / "tern_trace"
OPERATIONS = {  # name -> what it computes; "in" of a later block, h1, h and out are sums, which are exact
    "in": "embedding",
    "u": "BitLinear z, x, B, C, dt",
    "attn_norm": "norm before the mixer",
    "conv": "short convolution and SiLU",
    "i": "BitLinear i",
    "f": "BitLinear f",
    "g": "BitLinear g",
    "state": "gates and recurrence",
    "y": "state read and gated",
    "o": "output gate",
    "mixed": "BitLinear o, of a transformer all of attention",
    "ffn_norm": "norm before the MLP",
    "gate_up": "BitLinear gate and up",
    "mlp": "gated product",
    "down": "BitLinear down",
    "norm": "norm after the blocks",
    "q": "router q",
    "k": "router k",
    "residual": "residual around the chunks",
    "p": "boundary probability",
    "z": "chunks smoothed",
    "logits": "BitLinear head",
}

Trace = dict[str, dict[str, Tensor]]  # part -> operation -> [rows, width] float64, only rows that ran


def engine_trace(model: Path, text: Path, size: int) -> tuple[Trace, list[Tensor]]:
    """What the engine computes, exactly, and per stage which of its rows begin a chunk."""
    if not TRACE.exists():
        raise FileNotFoundError(f"{TRACE} is missing: cmake --preset native && cmake --build --preset native")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace"
        command = [TRACE, "--model", model, "--text", text, "--max-bytes", size, "--out", out]
        done = subprocess.run([str(word) for word in command], capture_output=True, encoding="utf-8")
        if done.returncode != 0:
            raise ValueError(done.stderr.strip())
        layout = json.loads(done.stdout)
        words = np.fromfile(out, dtype="<i4").reshape(layout["positions"], -1)
    trace, at = {}, 0
    for part in layout["parts"]:
        trace[part["name"]] = {}
        for operation in part["operations"]:
            raw = words[:, at : at + operation["width"]].astype(np.float64)
            trace[part["name"]][operation["name"]] = torch.from_numpy(raw / 2 ** operation["fraction_bits"])
            at += operation["width"]
    ran, boundaries = torch.ones(len(words), dtype=torch.bool), []
    stages = sum(name.endswith(".router") for name in trace)
    for s in range(stages + 1):
        for name, part in trace.items():
            if stages and name != "head" and name.startswith("main" if s == stages else f"stage.{s}."):
                trace[name] = {operation: values[ran] for operation, values in part.items()}
        if s < stages:
            boundaries.append(trace[f"stage.{s}.router"]["p"][:, 0] > 0)
            ran = ran.clone()
            ran[ran.clone()] = boundaries[s]
    return trace, boundaries


@torch.no_grad()
def run_model(model: nn.Module, tokens: Tensor, boundaries: list[Tensor], feed: Feed) -> Tensor:
    """tokens [T] -> logits [T, V]. boundaries: per stage over its rows, where its chunks begin; none for a flat model.

    feed is shown values without their batch, [rows, width].
    """

    def rows(part: str, operation: str, value: Tensor) -> Tensor:
        if operation == "boundary":
            return boundaries[int(part.split(".")[1])][None]
        return feed(part, operation, value[0])[None]

    with observing(rows):
        return model(tokens[None])[0][0]


def bits_per_byte(logits: Tensor, tokens: Tensor) -> float:
    return float(F.cross_entropy(logits[:-1].double(), tokens[1:])) / math.log(2)


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Norm weights, convolutions and what a state space has of its own as the engine holds them, Q16.16, and a transformer's keys,
    values and the head's input as its codes; what is left is the operations' own rounding.
    """
    if hasattr(model, "codes"):
        model.codes = True
    for name, parameter in model.named_parameters():
        if "norm" in name or "conv" in name or name.endswith(("dt_bias", "skip")):
            parameter.copy_(torch.floor(parameter.double() * 65536 + 0.5) / 65536)


def analyse(path: Path, text: Path, size: int, engine_weights: bool = False) -> dict:
    """-> model, bytes, bits_per_byte {engine, float}, operations (ranked by `relative`), control, places (ditto).

    engine_weights: see round_weights. Deviations are means of |float - fixed|; `relative` is that over the mean |fixed|, `median` the median. Per operation
    over all parts: magnitude, alone, median, relative, effect_logits (mean |change of a logit|), effect_bits (change of
    the bits per byte); control has the two effects. Per place (part of the model and operation): magnitude, alone, median, relative,
    accumulated, accumulated_relative.
    """
    engine, boundaries = engine_trace(path, text, size)
    head = engine["head"]
    model = gguf_file.load(path)
    if engine_weights:
        round_weights(model)
    if codec.of_model(model) is not codec.BYTES:
        raise ValueError(f"{path}: expected a model of bytes, which tern_trace traces, found one of pieces")
    tokens = torch.tensor([BOS, *read_text(text)[:size].tolist()])
    alone: dict[tuple[str, str], Tensor] = {}
    apart: dict[tuple[str, str], Tensor] = {}

    def give_the_engines(part: str, name: str, value: Tensor) -> Tensor:
        alone[part, name] = engine[part][name] - value.double()
        return engine[part][name].float()

    def compare(part: str, name: str, value: Tensor) -> Tensor:
        apart[part, name] = engine[part][name] - value.double()
        return value

    def effect(feed: Feed) -> dict:
        changed = run_model(model, tokens, boundaries, feed)
        bits = bits_per_byte(changed, tokens) - bits_per_byte(logits, tokens)
        return {"effect_logits": float((changed - logits).abs().mean()), "effect_bits": bits}

    run_model(model, tokens, boundaries, give_the_engines)
    logits = run_model(model, tokens, boundaries, compare)
    places = [_place(part, name, engine[part][name], alone[part, name], apart[part, name]) for part, name in alone]
    operations = []
    for name, title in OPERATIONS.items():
        here = [place for place in places if place["operation"] == name]
        if not here:
            continue
        mean = {key: float(np.mean([p[key] for p in here])) for key in ("magnitude", "alone", "median", "relative")}
        add = lambda part, n, value, name=name: value + alone[part, n].float() if n == name else value  # noqa: E731
        operations.append({"operation": name, "what": title, **mean, **effect(add)})
    noise = torch.Generator().manual_seed(0)

    def off_by_one_rounding(part: str, name: str, value: Tensor) -> Tensor:
        up = torch.rand(value.shape, generator=noise) < 0.5
        moved = torch.nextafter(value, torch.where(up, torch.inf, -torch.inf))
        return moved if name.endswith("norm") else value

    return {
        "model": str(path),
        "bytes": len(tokens) - 1,
        "bits_per_byte": {"engine": bits_per_byte(head["logits"], tokens), "float": bits_per_byte(logits, tokens)},
        "operations": sorted(operations, key=lambda o: -o["relative"]),
        "control": effect(off_by_one_rounding),
        "places": sorted(places, key=lambda p: -p["relative"]),
    }


def _place(part: str, name: str, fixed: Tensor, alone: Tensor, apart: Tensor) -> dict:
    magnitude = float(fixed.abs().mean())
    return {
        "part": part,
        "operation": name,
        "magnitude": magnitude,
        "alone": float(alone.abs().mean()),
        "median": float(alone.abs().median()),
        "relative": float(alone.abs().mean()) / max(magnitude, 1e-12),
        "accumulated": float(apart.abs().mean()),
        "accumulated_relative": float(apart.abs().mean()) / max(magnitude, 1e-12),
    }


EFFECT_COLUMNS = (
    "operation (all parts)",
    "mean abs",
    "alone",
    "median",
    "relative",
    "effect: mean abs logit",
    "bits per byte",
)
PLACE_COLUMNS = ("part", "operation", "mean abs", "alone", "relative", "accumulated", "relative")


def tables(report: dict) -> str:
    """The report as Markdown."""
    score = report["bits_per_byte"]
    operations = [
        (
            *(f"{o['what']} (`{o['operation']}`)", f"{o['magnitude']:.4f}", f"{o['alone']:.2e}", f"{o['median']:.2e}"),
            *(f"{o['relative']:.1e}", f"{o['effect_logits']:.2e}", f"{o['effect_bits']:+.5f}"),
        )
        for o in report["operations"]
    ]
    c, none = report["control"], ("", "", "", "")
    changed = (f"{c['effect_logits']:.2e}", f"{c['effect_bits']:+.5f}")
    operations.append(("control: the norms off by one rounding of float32", *none, *changed))
    places = [
        (
            *(p["part"], f"`{p['operation']}`", f"{p['magnitude']:.4f}", f"{p['alone']:.2e}"),
            *(f"{p['relative']:.1e}", f"{p['accumulated']:.2e}", f"{p['accumulated_relative']:.1e}"),
        )
        for p in report["places"]
    ]
    both = f"engine {score['engine']:.5f}, float {score['float']:.5f} bits per byte"
    return "\n\n".join(
        (
            f"{report['bytes']} bytes: {both}",
            markdown([EFFECT_COLUMNS, *operations]),
            markdown([PLACE_COLUMNS, *places]),
        )
    )
