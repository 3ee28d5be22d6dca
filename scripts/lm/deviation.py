"""Where integers and float differ: every operation of every block, from equal inputs and in a run of its own.

Three questions, for the operations that `tern_trace` writes out:
  alone         PyTorch computes the operation from the engine's inputs: what this operation alone adds
  accumulated   PyTorch computes everything: what has come together at this point
  effect        PyTorch computes everything, and the deviation of this operation alone is added to its results in all
                blocks: what it does to the logits and to the bits per byte
Small deviations do not fade: now and then one moves an activation to the next int8 code, a step of 1/127 of the largest
activation, and that moves others. The control row says how much of an effect comes from float32 itself: PyTorch with
its norms off by one rounding of float32. An operation matters if its effect is clearly above that.
Only hgrnbit; the blocks of a hierarchical model are the same.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm import gguf_file
from lm.arch.hgrnbit import BOS, Block, HGRNBit, gate_sigmoid

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT / "build" / "native" / "tern_trace"
OPERATIONS = {  # name -> what it computes; "in" of a later block, h1 and out are sums, which are exact
    "in": "embedding",
    "attn_norm": "norm before the mixer",
    "conv": "short convolution and SiLU",
    "i": "BitLinear i",
    "f": "BitLinear f",
    "g": "BitLinear g",
    "state": "gates and recurrence",
    "o": "output gate",
    "mixed": "BitLinear o",
    "ffn_norm": "norm before the MLP",
    "gate_up": "BitLinear gate and up",
    "mlp": "gated product",
    "down": "BitLinear down",
    "output_norm": "norm before the head",
    "logits": "BitLinear head",
}

# feed(part, name, value): what the operations after `name` get, where `value` was computed; part: block, or -1 the head
Feed = Callable[[int, str, Tensor], Tensor]


def engine_trace(model: Path, text: Path, size: int) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """What the engine computes -> (per block, head): operation -> [1 + size, width] float64, exact."""
    if not TRACE.exists():
        raise FileNotFoundError(f"{TRACE} is missing: cmake --preset native && cmake --build --preset native")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "trace"
        command = [TRACE, "--model", model, "--text", text, "--max-bytes", size, "--out", out]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError(done.stderr.strip())
        layout = json.loads(done.stdout)
        words = np.fromfile(out, dtype="<i4").reshape(layout["positions"], -1)
    parts, at = [], 0
    for operations in [layout["block"]] * layout["blocks"] + [layout["head"]]:
        part = {}
        for operation in operations:
            raw = words[:, at : at + operation["width"]].astype(np.float64)
            part[operation["name"]] = torch.from_numpy(raw / 2 ** operation["fraction_bits"])
            at += operation["width"]
        parts.append(part)
    return parts[:-1], parts[-1]


def run_block(block: Block, keep: Tensor, h: Tensor, feed: Callable[[str, Tensor], Tensor]) -> Tensor:
    """The block as lm/arch/hgrnbit.py computes it, h [T, D] from the beginning of a text, one operation at a time."""
    mix, kind = block.attn, block.attn.c.sigmoid
    a = feed("attn_norm", block.attn_norm(h))
    if mix.conv is not None:
        window = F.pad(a.T[None], (mix.conv.kernel_size[0] - 1, 0))
        a = feed("conv", mix.silu(mix.conv(window)[0].T))
    i, f, g = (feed(n, linear(a)) for n, linear in (("i", mix.i_proj), ("f", mix.f_proj), ("g", mix.g_proj)))
    k, u, state, states = keep * gate_sigmoid(-f, kind), mix.silu(i), torch.zeros_like(i[0]), []
    for t in range(len(h)):
        state = state + k[t] * (u[t] - state)
        states.append(state)
    s = feed("state", torch.stack(states))
    normed, other = (g, s) if mix.c.gate_norm == "gate" else (s, g)
    o = feed("o", mix.g_norm(normed) * mix.silu(other))
    h = feed("h1", h + feed("mixed", mix.o_proj(o)))
    gate, up = feed("gate_up", block.mlp.gate_proj(feed("ffn_norm", block.mlp_norm(h)))).chunk(2, -1)
    mlp = feed("mlp", gate * gate_sigmoid(gate, kind) * up)
    return feed("out", h + feed("down", block.mlp.down_proj(mlp)))


@torch.no_grad()
def run_model(model: HGRNBit, tokens: Tensor, feed: Feed) -> Tensor:
    """tokens [T] -> logits [T, V], as forward() does it, through `feed`."""
    h = feed(0, "in", model.embeddings(tokens))
    for n, (block, keep) in enumerate(zip(model.layers, model.keep_table())):
        h = run_block(block, keep, h, lambda name, value, n=n: feed(n, name, value))
    return feed(-1, "logits", model.lm_head(feed(-1, "output_norm", model.norm(h))))


def bits_per_byte(logits: Tensor, tokens: Tensor) -> float:
    return float(F.cross_entropy(logits[:-1].double(), tokens[1:])) / math.log(2)


@torch.no_grad()
def round_weights(model: nn.Module) -> None:
    """Norm weights and convolution taps as the engine holds them, Q16.16; what is left is the operations' own rounding."""
    for name, parameter in model.named_parameters():
        if "norm" in name or "conv" in name:
            parameter.copy_(torch.floor(parameter.double() * 65536 + 0.5) / 65536)


def analyse(path: Path, text: Path, size: int, engine_weights: bool = False) -> dict:
    """-> model, bytes, bits_per_byte {engine, float}, operations (ranked by `relative`), control, places (ditto).

    engine_weights: see round_weights. Deviations are means of |float - fixed|; `relative` is that over the mean |fixed|, `median` the median. Per operation
    over all blocks: magnitude, alone, median, relative, effect_logits (mean |change of a logit|), effect_bits (change of
    the bits per byte); control has the two effects. Per place (block and operation): magnitude, alone, median, relative,
    accumulated, accumulated_relative.
    """
    blocks, head = engine_trace(path, text, size)
    engine = dict(enumerate(blocks)) | {-1: head}
    model = gguf_file.load(path)
    if engine_weights:
        round_weights(model)
    tokens = torch.tensor([BOS, *_fed_bytes(text, len(head["logits"]) - 1)])
    alone: dict[tuple[int, str], Tensor] = {}
    apart: dict[tuple[int, str], Tensor] = {}

    def give_the_engines(part: int, name: str, value: Tensor) -> Tensor:
        alone[part, name] = engine[part][name] - value.double()
        return engine[part][name].float()

    def compare(part: int, name: str, value: Tensor) -> Tensor:
        apart[part, name] = engine[part][name] - value.double()
        return value

    def effect(feed: Feed) -> dict:
        changed = run_model(model, tokens, feed)
        bits = bits_per_byte(changed, tokens) - bits_per_byte(logits, tokens)
        return {"effect_logits": float((changed - logits).abs().mean()), "effect_bits": bits}

    run_model(model, tokens, give_the_engines)
    logits = run_model(model, tokens, compare)
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

    def off_by_one_rounding(part: int, name: str, value: Tensor) -> Tensor:
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


def _fed_bytes(text: Path, size: int) -> list[int]:
    from lm.data import read_text

    return read_text(text)[:size].tolist()


def _place(part: int, name: str, fixed: Tensor, alone: Tensor, apart: Tensor) -> dict:
    magnitude = float(fixed.abs().mean())
    return {
        "block": part if part >= 0 else "head",
        "operation": name,
        "magnitude": magnitude,
        "alone": float(alone.abs().mean()),
        "median": float(alone.abs().median()),
        "relative": float(alone.abs().mean()) / max(magnitude, 1e-12),
        "accumulated": float(apart.abs().mean()),
        "accumulated_relative": float(apart.abs().mean()) / max(magnitude, 1e-12),
    }


def tables(report: dict) -> str:
    """The report as Markdown."""
    score = report["bits_per_byte"]
    lines = [
        f"{report['bytes']} bytes: engine {score['engine']:.5f}, float {score['float']:.5f} bits per byte",
        "",
        "| operation (all blocks) | mean abs | alone | median | relative | effect: mean abs logit | bits per byte |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in report["operations"]:
        lines.append(
            f"| {o['what']} (`{o['operation']}`) | {o['magnitude']:.4f} | {o['alone']:.2e} | {o['median']:.2e} | {o['relative']:.1e} "
            f"| {o['effect_logits']:.2e} | {o['effect_bits']:+.5f} |"
        )
    c = report["control"]
    lines += [
        f"| control: the norms off by one rounding of float32 | | | | | {c['effect_logits']:.2e} | {c['effect_bits']:+.5f} |",
        "",
        "| block | operation | mean abs | alone | relative | accumulated | relative |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for p in report["places"]:
        lines.append(
            f"| {p['block']} | `{p['operation']}` | {p['magnitude']:.4f} | {p['alone']:.2e} | {p['relative']:.1e} "
            f"| {p['accumulated']:.2e} | {p['accumulated_relative']:.1e} |"
        )
    return "\n".join(lines)
