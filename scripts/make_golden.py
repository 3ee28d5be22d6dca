#!/usr/bin/env python3
"""Makes every golden file: what each later link of the equality chain has to reproduce.

    make_golden.py      after: cmake --preset native && cmake --build --preset native

For each small random model in MODELS, and for every shipped model, it writes to tests/golden:

NAME.gguf (random models only)
NAME.json: what the integer engine computes; exact on every platform, through the package's API too
    model        path of the model file from the repository's root
    sha256       of the model file
    fingerprint  the engine's, 16 hex digits
    prompt       bytes, hex
    prompt_tokens  where tokens are not bytes: those of the prompt; `score` and `generations` then have `tokens`, too
    logits       an integer Q16.16 for each token: the prediction after the prompt
    logits_fnv1a 16 hex digits: FNV-1a 64 over the logits (int32, little endian) after BOS and after each prompt token
    score        {text (bytes, hex), bytes (tokens that were predicted), bits_q32 (decimal text, Q32.32), top1, top5}
    boundaries   hierarchical models only: hex, a byte for BOS and each of the prompt; bit s = a chunk of stage s begins
    generations  [{options, bytes (hex), finish}] after the prompt; options carry the names of the npm package (greedy,
                 temperature, topK, topP, minP, repetitionPenalty, seed, maxBytes or, where tokens are not bytes,
                 maxTokens; absent: temperature 1, nothing cut),
                 finish is max_bytes or end_of_text
NAME.float.json (random models of bytes only): what PyTorch computes in float32 for the same prompt
    positions    indices into BOS + prompt
    layers       [layer][position][width] residual stream after each block, in the order in which blocks run; zeros
                 where a block did not run
    boundaries   hierarchical models only: as in NAME.json
    logits       [position][256]
    tolerance    {layers: [L], logits}: largest allowed |engine - float| / |float|, as Euclidean norms over all of
                 `positions`. See TOLERANCE_PER_BLOCK.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from torch import nn

from lm import ROOT, arch
from lm.arch import bitmamba2, bitnet, hnetbit
from lm.arch.hgrnbit import Config
from lm.arch.observed import observing
from lm.file import gguf_file, superfloat, superfloat_plan, tokenizer_keys
from lm.text import codec, command, files
from lm.text.encoding import BOS, EOS, encode

FOLDER = ROOT / "tests" / "golden"
ENGINE = ROOT / "build" / "native" / "tern_golden"

# Small, odd widths and every optional part once on and once off. Together 750 KB.
MODELS = {
    "tiny_gate": Config(hidden=64, recurrent=128, intermediate=96, layers=3, conv_kernel=4, lower_bounds=True),
    "tiny_state": Config(
        hidden=64, recurrent=64, intermediate=96, layers=3, conv_kernel=0, gate_norm="state", sigmoid="piecewise_linear"
    ),
}
HNETS = {
    "tiny_hnet": hnetbit.Config(hidden=(40, 72), recurrent=(48, 72), intermediate=(56, 88), layers=2, router=(24,)),
    "tiny_hnet_2_stages": hnetbit.Config(
        hidden=(36, 36, 52),
        recurrent=(40, 36, 56),
        intermediate=(44, 60, 68),
        encoder=(1, 2),
        decoder=(2, 1),
        layers=1,
        router=(36, 20),
        target=(4.0, 2.0),
        lr_multiplier=(1.0, 1.0, 1.0),
        decay_span=(0.0, 0.0, 0.0),
        conv_kernel=0,
        gate_norm="state",
        sigmoid="piecewise_linear",
    ),
}
MODELS |= HNETS
MODELS["tiny_mamba"] = bitmamba2.Config(hidden=44, inner=99, heads=3, layers=3)
MODELS["tiny_bitnet"] = bitnet.Config(hidden=44, intermediate=76, heads=6, kv_heads=2, head_width=12, layers=3)
MODELS["tiny_falcon"] = bitnet.Config(
    hidden=52,
    intermediate=60,
    heads=3,
    kv_heads=3,
    head_width=16,
    layers=2,
    activation="silu",
    sub_norms=False,
    tied=False,
)
# Stored as SFx, every tensor with another width, with and without scales; the output gates stay ternary.
SUPERFLOATS = {
    "tiny_superfloat": Config(hidden=52, recurrent=44, intermediate=68, layers=2, conv_kernel=3, ternary=False)
}
MODELS |= SUPERFLOATS
# Their tokens are the first pieces of a tokenizer for tests, the file holds them.
PIECES = {
    "tiny_tokens": Config(hidden=64, recurrent=64, intermediate=96, layers=2, conv_kernel=2, vocab_size=512),
    "tiny_mamba_tokens": bitmamba2.Config(vocab_size=512, hidden=44, inner=66, heads=3, layers=2),
}
STYLES = {"tiny_tokens": "llama", "tiny_mamba_tokens": "gpt2"}
TYPES = {
    "tiny_gate": "TQ1_0",
    "tiny_state": "TQ2_0",
    "tiny_hnet": "TQ1_0",
    "tiny_hnet_2_stages": "TQ2_0",
    "tiny_mamba": "TQ1_0",
    "tiny_bitnet": "TQ1_0",
    "tiny_falcon": "TQ2_0",
    "tiny_superfloat": "TQ2_0",
    "tiny_tokens": "TQ1_0",
    "tiny_mamba_tokens": "TQ2_0",
}
# Those of the hierarchical models leave every boundary probability of PROMPT at least 0.0025 away from 1/2: with random
# weights, float and engine would now and then disagree on which side of it they are.
SEEDS = {
    "tiny_gate": 11,
    "tiny_state": 12,
    "tiny_hnet": 19,
    "tiny_hnet_2_stages": 28,
    "tiny_mamba": 13,
    "tiny_bitnet": 14,
    "tiny_falcon": 15,
    "tiny_superfloat": 16,
    "tiny_tokens": 1,
    "tiny_mamba_tokens": 2,
}

# Text of several scripts, a document end, and bytes that are not UTF-8; longer than four tiles of the prefill.
PROMPT = (
    "Once upon a time, in a café, an owl said: “Привет, 世界!” 🦉\n".encode()
    + b"\xff"
    + b"The end?\n\x00\x01\x7f\x80\xc3("
)
# As PROMPT, well-formed; and the name of a control token, which is text.
PIECES_PROMPT = "Once upon a time, in a café, an owl said: “Привет, 世界!” 🦉\n</s>The end?\n\1\x7f".encode()
STORY_PROMPT = b"Once upon a time, there was a little fox who wanted to learn how to"
SCORED_BYTES = 600

# Every value a user can set, at its default, inside, and (penalty, small cuts) where it changes the outcome.
GENERATIONS = (
    {"greedy": True, "maxBytes": 64},
    {"seed": 1, "maxBytes": 200},
    {"temperature": 0.8, "topK": 40, "seed": 2, "maxBytes": 96},
    {"temperature": 0.7, "topP": 0.9, "seed": 3, "maxBytes": 96},
    {"temperature": 1.3, "minP": 0.05, "seed": 4, "maxBytes": 96},
    {"temperature": 0.9, "topK": 50, "topP": 0.95, "minP": 0.01, "repetitionPenalty": 1.2, "seed": 5, "maxBytes": 96},
    {"greedy": True, "repetitionPenalty": 1.1, "maxBytes": 64},
    {"seed": 9007199254740991, "topK": 1, "maxBytes": 16},
)

# The engine rounds activations between operations to 2^-16 and float32 sums in another order. Both now and then move an
# activation that lies between two int8 codes to the other one: a step of 1/127 of the largest activation, which then
# stays in the state and grows with every block. Measured: 0.6, 1.6, 2.1 % after three blocks and 2.4 % at the head
# (random weights; noise of 1e-4 on the activations of PyTorch itself gives 0.5, 1.3, 1.9 and 2.1 %).
# That a block adds nothing else is tested block by block, on the engine's own inputs, in tests/py/test_golden.py.
TOLERANCE_PER_BLOCK = 0.015


def random_model(config: object, seed: int) -> nn.Module:
    """A model with every parameter random: also norms, convolution and bounds, so that no factor hides as 1 or 0."""
    torch.manual_seed(seed)
    model = arch.build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "lower_bounds" in name or name.endswith((".pad", "bias", "a_log", "skip")):
                parameter.normal_(0.0, 1.0)
            elif "router" in name or "residual" in name:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5)
    return model.eval()


def every_width(model: nn.Module) -> dict[str, superfloat.Numbers]:
    """What a file of this model has: width after width from 3 to 16, scales for all that is beyond 1 and half of the rest."""
    for layer in model.layers:
        layer.attn.g_proj.ternary = True
    parameters, plan = dict(model.named_parameters()), {}
    for n, (name, parameter) in enumerate(superfloat_plan.targets(model).items()):
        scaled = n % 2 == 0 or float(parameters[parameter].abs().max()) >= 1
        plan[name] = superfloat_plan.Choice(superfloat.WIDTHS[n % len(superfloat.WIDTHS)], scaled)
    return superfloat_plan.quantize(model, plan)


def first_pieces(style: str, count: int) -> dict:
    """The keys of the tokenizer tests/data/tokenizers/STYLE as far as that many pieces go."""
    whole = json.loads(files.read_text(ROOT / "tests" / "data" / "tokenizers" / style / "tokenizer.json"))
    model = whole["model"]
    model["vocab"] = {piece: n for piece, n in model["vocab"].items() if n < count}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    ends = {"bos_token": "<s>", "eos_token": "</s>"} if style == "llama" else {}
    return tokenizer_keys.keys_of(json.dumps(whole), {}, ends)


def command_option(name: str, value: object) -> str:
    """topK=40 -> top-k=40, as tern_golden wants it."""
    dashed = "".join("-" + c.lower() if c.isupper() else c for c in name)
    return f"{dashed}={str(value).lower() if isinstance(value, bool) else value}"


def run_engine(program: Path, model: Path, prompt: bytes | list[int], *arguments: str) -> dict:
    """The JSON that tern_golden prints. prompt: bytes, or tokens that are not bytes."""
    given = (
        ["--prompt-hex", prompt.hex()] if isinstance(prompt, bytes) else ["--prompt-tokens", ",".join(map(str, prompt))]
    )
    command = [str(program), "--model", str(model), *given, *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def engine_golden(program: Path, model: Path, prompt: bytes, scored: bytes) -> dict:
    """The content of NAME.json."""
    tokens = codec.of_keys(gguf_file.keys_of(GGUFReader(model)))
    is_bytes = tokens is codec.BYTES

    def encoded(text: bytes) -> bytes | list[int]:
        return text if is_bytes else tokens.encode(np.frombuffer(text, np.uint8)).tolist()

    def in_tokens(name: str, values: list[int] | bytes) -> dict:
        return {} if is_bytes else {name: values}

    specs = [",".join(command_option(*item) for item in options.items()) for options in GENERATIONS]
    out = run_engine(program, model, encoded(prompt), *(word for spec in specs for word in ("--generate", spec)))
    return {
        "model": model.relative_to(ROOT).as_posix(),
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "fingerprint": out["fingerprint"],
        "prompt": prompt.hex(),
        **in_tokens("prompt_tokens", encoded(prompt)),
        "logits": out["logits"],
        "logits_fnv1a": out["logits_fnv1a"],
        "score": {"text": scored.hex()}
        | in_tokens("tokens", encoded(scored))
        | run_engine(program, model, encoded(scored))["score"],
        **({"boundaries": out["boundaries"]} if out.get("stages") else {}),
        "generations": [
            {
                "options": {
                    name if is_bytes else name.replace("Bytes", "Tokens"): value for name, value in options.items()
                },
                "bytes": made["hex"] if is_bytes else b"".join(map(tokens.piece, made["tokens"])).hex(),
                **in_tokens("tokens", made.get("tokens")),
                "finish": made["finish"],
            }
            | ({"boundaries": made["boundaries"]} if out.get("stages") else {})
            for options, made in zip(GENERATIONS, out["generations"])
        ],
    }


def positions_of(masks: bytes, level: int) -> list[int]:
    """Where the rows of a level are in the text: all, or those where a chunk of every stage around it begins."""
    around = (1 << level) - 1
    return [t for t, mask in enumerate(masks) if mask & around == around]


def masks_of(notes: list[dict], length: int) -> bytes:
    """The boundaries of HNetBit.trace, one row of text, as in NAME.json."""
    masks = bytearray(length)
    for s, note in enumerate(notes):
        for t, begins in zip(positions_of(masks, s), note["boundary"][0].tolist()):
            masks[t] |= begins << s
    return bytes(masks)


@torch.no_grad()
def run_blocks(model: nn.Module, tokens: torch.Tensor, see) -> torch.Tensor:
    """Logits [1,T,V]; after every block `see(level, h)` may give another h [1,rows,D] to go on with, or None."""
    innermost = len(getattr(model, "stages", ()))

    def feed(part: str, operation: str, h: torch.Tensor) -> torch.Tensor:
        if operation != "out":
            return h
        other = see(int(part.split(".")[1]) if part.startswith("stage.") else innermost, h)
        return h if other is None else other

    with observing(feed):
        return as_the_engine_rounds(model)(tokens)[0]


def as_the_engine_rounds(model: nn.Module) -> nn.Module:
    """Where the engine has codes and the published model has numbers, both have codes."""
    if hasattr(model, "codes"):
        model.codes = True
    return model


@torch.no_grad()
def float_golden(model: nn.Module, prompt: bytes) -> dict:
    """The content of NAME.float.json: float32, every fifth position and the last."""
    tokens = torch.tensor([[BOS, *prompt]])
    length = tokens.shape[1]
    masks = masks_of(model.trace(tokens)[2], length) if hasattr(model, "trace") else None
    layers = []

    def see(level: int, h: torch.Tensor) -> None:
        at_bytes = torch.zeros(length, h.shape[2])
        at_bytes[positions_of(masks, level) if masks else slice(None)] = h[0]
        layers.append(at_bytes)

    logits = run_blocks(model, tokens, see)[0]
    positions = sorted({*range(0, length, 5), length - 1})

    def rounded(values: torch.Tensor) -> list:
        return [[round(x, 4) for x in row] for row in values[positions].tolist()]

    return {
        "positions": positions,
        "layers": [rounded(h) for h in layers],
        "logits": rounded(logits),
        **({"boundaries": masks.hex()} if masks else {}),
        "tolerance": {
            "layers": [TOLERANCE_PER_BLOCK * (block + 1) for block in range(len(layers))],
            "logits": TOLERANCE_PER_BLOCK * (len(layers) + 1),
        },
    }


def shipped_models() -> list[Path]:
    manifest = json.loads(files.read_text(ROOT / "models" / "manifest.json"))
    return [ROOT / "models" / entry["file"] for entry in manifest["models"]]


def write_json(path: Path, content: dict) -> None:
    """One line per key and per generation: short in a diff, and still readable."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value)
        if key == "generations":
            text = "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in value) + "\n  ]"
        lines.append(f'  "{key}": {text}')
    files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


def make_all() -> None:
    FOLDER.mkdir(exist_ok=True)
    scored = encode((ROOT / "tests" / "data" / "stories.txt").read_bytes())[:SCORED_BYTES].tobytes()
    for name, config in MODELS.items():
        path = FOLDER / f"{name}.gguf"
        card = gguf_file.Card(name, "Random weights, for tests.", "MIT")
        model = random_model(config, SEEDS[name])
        stored = every_width(model) if name in SUPERFLOATS else None
        gguf_file.write(path, model, card, TYPES[name], None, stored)
        write_json(FOLDER / f"{name}.json", engine_golden(ENGINE, path, PROMPT, scored))
        write_json(FOLDER / f"{name}.float.json", float_golden(gguf_file.load(path), PROMPT))
    for name, config in PIECES.items():
        path = FOLDER / f"{name}.gguf"
        card = gguf_file.Card(name, "Random weights, for tests.", "MIT")
        tokenizer = first_pieces(STYLES[name], config.vocab_size)
        gguf_file.write(path, random_model(config, SEEDS[name]), card, TYPES[name], tokenizer)
        write_json(FOLDER / f"{name}.json", engine_golden(ENGINE, path, PIECES_PROMPT, scored.split(bytes([EOS]))[0]))
    for shipped in shipped_models():
        write_json(FOLDER / f"{shipped.stem}.json", engine_golden(ENGINE, shipped, STORY_PROMPT, scored))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    make_all()


if __name__ == "__main__":
    command.run(main)
