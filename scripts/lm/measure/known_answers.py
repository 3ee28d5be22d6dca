"""Is a converted checkpoint what it claims to be: its structure, its source's numbers, and what is known of its answers.

Known answers are data (models/known-answers.json): an entry `match`es a model by values of its keys and lists answers, each
of one of these kinds. They are computed with PyTorch, in float.

    tokens      text, tokens                      the tokenizer's tokens of a text
    greedy      tokens, continuation              the most likely next tokens, one after the other
    logits      tokens, means, first, within      the mean logit at each position, the first logits of the first; absolute
    perplexity  text, expected, within            per token of a text that is named on the command line; within: relative
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from lm.file import gguf_file, gguf_layout
from lm.file.convert import NOTHING, Report, quantize
from lm.file.published import Published, bitmamba2_shapes, bitnet_shapes, hgrnbit_shapes
from lm.file.weights import Checkpoint

WINDOW = 256  # tokens that are computed at once
ZEROS = (0.02, 0.98)  # share of zeros of a matrix that absmean can have made
SAME_SCALE = 2.0**-9  # two scales of one matrix, relative
SHAPES = {"hgrnbit": hgrnbit_shapes, "bitmamba2": bitmamba2_shapes, "bitnet": bitnet_shapes}


@dataclass(frozen=True)
class Finding:
    """One line of the result; good is None where there was nothing to compare with."""

    what: str
    good: bool | None
    says: str


# ---- structure


def structure(path: Path) -> Iterator[Finding]:
    """Keys, tensors, scales and codes of the file. ValueError: no model file of an architecture that is converted."""
    reader = gguf.GGUFReader(path)
    keys = gguf_file.keys_of(reader)
    name = keys.get("general.architecture")
    if name not in SHAPES:
        raise ValueError(f"{path}: expected general.architecture {' or '.join(SHAPES)}, found {name}")
    kinds = gguf_layout.keys_of(name)
    unknown = sorted(set(keys) - set(kinds))
    yield Finding("keys", not unknown, f"{len(keys)}" + (f", unknown: {', '.join(unknown)}" if unknown else ""))
    required = set(gguf_layout.ARCHITECTURE_KEYS[name]) | set(gguf_layout.BYTES)
    if not required <= set(keys):
        raise ValueError(f"{path}: these keys are missing: {', '.join(sorted(required - set(keys)))}")
    pieces = len(keys.get("tokenizer.ggml.tokens", [])) or 256
    vocabulary = keys[f"{name}.vocab_size"]
    yield Finding("tokenizer", pieces == vocabulary, f"{pieces:,} pieces for {vocabulary:,} tokens")
    found = {t.name: t for t in reader.tensors}
    wanted = expected_tensors(keys, set(found))
    wrong = sorted(set(wanted) ^ (set(found) - {"token_embd.scale", "output.scale"}))
    wrong += [n for n, columns in wanted.items() if n in found and int(found[n].shape[0]) != padded(found[n], columns)]
    yield Finding(
        "tensors", not wrong, f"{len(found)}" + (f", missing, unknown or misshapen: {wrong[:6]}" if wrong else "")
    )
    faults, zeros, weights = [], 0, 0
    for tensor in reader.tensors:
        if tensor.tensor_type in gguf_file.TERNARY_TYPES.values():
            codes, scale = codes_of(tensor, wanted.get(tensor.name, int(tensor.shape[0])))
            share = 1 - np.count_nonzero(codes) / codes.size
            zeros, weights = zeros + share * codes.size, weights + codes.size
            nothing = name == "bitnet" and (scale == 0 or share == 1)  # as in the first blocks of 2B-4T
            if not (nothing or (scale > 0 and ZEROS[0] < share < ZEROS[1])):
                faults.append(f"{tensor.name} (scale {scale:.3g}, zeros {share:.0%})")
        elif tensor.data.dtype != np.int8 and not np.isfinite(tensor.data).all():
            faults.append(f"{tensor.name} (not finite)")
    says = f"{weights:,} ternary weights, {zeros / max(weights, 1):.1%} zeros"
    yield Finding("numbers", not faults, says + (f", out of range: {', '.join(faults[:6])}" if faults else ""))


def padded(tensor: gguf.ReaderTensor, columns: int) -> int:
    """Columns of a tensor that has so many of its own, as GGUF counts them."""
    is_ternary = tensor.tensor_type in gguf_file.TERNARY_TYPES.values()
    return -(-columns // gguf_file.BLOCK) * gguf_file.BLOCK if is_ternary else columns


def expected_tensors(keys: dict, names: set[str]) -> dict[str, int]:
    """Every tensor but the scales of int8 rows -> its columns, without padding. names: of the file's tensors."""
    config = gguf_layout.config_from_keys(keys, names)
    if "blk.0.lower_bound" in names:
        config = type(config)(**{**config.to_dict(), "lower_bounds": True})
    shapes = SHAPES[config.architecture](config)
    columns = {}
    for name, parameter, kind in Published(config, str, shapes).rows:
        if kind == "ternary":
            width = shapes[f"{parameter}.weight"][1]
            columns[f"{name}.in_norm.weight"] = columns[f"{name}.weight"] = width
        elif kind in ("embedding", "dense"):
            columns[f"{name}.weight"] = shapes[parameter][1]
        elif kind == "lower_bound":
            columns[name] = shapes["lower_bounds"][1]
        else:
            columns[name] = shapes[parameter][-1]
    return columns


def codes_of(tensor: gguf.ReaderTensor, columns: int) -> tuple[np.ndarray, float]:
    """[rows, columns] codes and their scale. ValueError: blocks of one matrix with different scales."""
    size = gguf.GGML_QUANT_SIZES[tensor.tensor_type][1]
    scales = np.unique(np.ascontiguousarray(tensor.data.reshape(-1, size)[:, -2:]).view(np.float16))
    if scales.size != 1:
        raise ValueError(f"{tensor.name}: expected one scale for the matrix, found {scales.size}")
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)[:, :columns]
    return np.sign(values).astype(np.int8), float(scales[0])


# ---- against the source


def against_source(path: Path, kind: Published, checkpoint: Checkpoint) -> Iterator[Finding]:
    """Every ternary matrix of the file against the checkpoint that it was made of."""
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    for name, parameter, row_kind in kind.rows:
        if row_kind not in ("ternary", "matrix"):
            continue
        name, parameter = name.removesuffix(".weight"), parameter.removesuffix(".weight")
        their = kind.their_name(f"{parameter}.weight")
        if f"{name}.weight" not in found or their not in checkpoint:
            yield Finding(name, False, "in one of the two only")
            continue
        weight = checkpoint[their]
        wanted, scale = weight.load() if weight.packed else quantize(their, weight.load(), Report())
        codes, stored = codes_of(found[f"{name}.weight"], weight.shape[1])
        if codes.shape != wanted.shape or not np.array_equal(codes, wanted):
            yield Finding(name, False, "its codes are not those of the source")
        elif abs(stored / scale - 1) > SAME_SCALE and scale >= NOTHING:
            kept = np.count_nonzero(wanted) / wanted.size
            twice = abs(stored / (scale * kept) - 1) <= SAME_SCALE * 4
            reason = f"{kept:.3f} of it, the share of codes that are not 0: it was quantised a second time"
            yield Finding(name, False, f"scale {stored:.6g}, expected {scale:.6g}" + (f"; {reason}" if twice else ""))
        else:
            yield Finding(name, True, f"scale {stored:.6g}")


# ---- answers


def answers_for(keys: dict, entries: list[dict]) -> dict | None:
    """The entry that the model's keys match."""
    return next((e for e in entries if all(keys.get(key) == value for key, value in e["match"].items())), None)


def read_answers(path: Path) -> list[dict]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        kinds = {answer["kind"] for entry in entries for answer in entry["answers"] if entry["match"]}
    except (ValueError, KeyError, TypeError) as fault:
        raise ValueError(f"{path}: expected a list of entries with match and answers: {fault!r}") from None
    if not kinds <= set(KINDS):
        raise ValueError(f"{path}: expected answers of the kinds {', '.join(KINDS)}, found {', '.join(sorted(kinds))}")
    return entries


def tokens_of(tokenizer: Tokenizer, text: str) -> list[int]:
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False).ids


@torch.no_grad()
def check_greedy(model: nn.Module, answer: dict) -> Finding:
    logits, states = model(torch.tensor([answer["tokens"]]))
    row, found = logits[0, -1], []
    for _ in answer["continuation"]:
        found.append(int(row.argmax()))
        logits, states = model.step(torch.tensor([found[-1]]), states)
        row = logits[0]
    good = found == answer["continuation"]
    return Finding(f"greedy after {answer['tokens'][:8]}", good, f"expected {answer['continuation']}, found {found}")


@torch.no_grad()
def check_logits(model: nn.Module, answer: dict) -> Finding:
    logits = model(torch.tensor([answer["tokens"]]))[0][0]
    found = torch.cat((logits.mean(1), logits[0, : len(answer["first"])])).tolist()
    off = max(abs(a - b) for a, b in zip(found, answer["means"] + answer["first"], strict=True))
    says = f"means {[round(a, 3) for a in found[: len(logits)]]}, {off:.4f} off (within {answer['within']})"
    return Finding(f"logits of {answer['tokens'][:8]}", off <= answer["within"], says)


@torch.no_grad()
def perplexity(model: nn.Module, tokens: list[int]) -> float:
    """exp of the mean nats of every token after the first, the state carried through."""
    states, nats = model.initial_states(1), 0.0
    stream = torch.tensor(tokens)
    for begin in range(0, len(stream) - 1, WINDOW):
        window = stream[begin : begin + WINDOW + 1]
        logits, states = model(window[None, :-1], states)
        nats += float(F.cross_entropy(logits[0], window[1:], reduction="sum"))
    return math.exp(nats / (len(stream) - 1))


def check_perplexity(model: nn.Module, tokenizer: Tokenizer, answer: dict, texts: dict[str, Path]) -> Finding:
    what = f"perplexity on {answer['text']}"
    if answer["text"] not in texts:
        return Finding(what, None, f"expected {answer['expected']}; name the text with --text {answer['text']}=FILE")
    found = perplexity(model, tokens_of(tokenizer, texts[answer["text"]].read_text(encoding="utf-8")))
    good = abs(found / answer["expected"] - 1) <= answer["within"]
    return Finding(what, good, f"expected {answer['expected']} (within {answer['within']:.0%}), found {found:.2f}")


def check_tokens(tokenizer: Tokenizer, answer: dict) -> Finding:
    found = tokens_of(tokenizer, answer["text"])
    good = found == answer["tokens"]
    return Finding(f"tokens of {answer['text']!r}", good, f"expected {answer['tokens']}, found {found}")


KINDS = ("tokens", "greedy", "logits", "perplexity")


def check_answers(path: Path, entry: dict, texts: dict[str, Path]) -> Iterator[Finding]:
    """One finding for each answer of the entry."""
    fields = gguf.GGUFReader(path).fields
    text = fields.get("tokenizer.huggingface.json")
    if text is None:
        raise ValueError(f"{path}: expected tokenizer.huggingface.json in it, found none: convert the checkpoint again")
    tokenizer = Tokenizer.from_str(text.contents())
    model = None
    for answer in entry["answers"]:
        if answer["kind"] == "tokens":
            yield check_tokens(tokenizer, answer)
            continue
        model = model or gguf_file.load(path)
        if answer["kind"] == "greedy":
            yield check_greedy(model, answer)
        elif answer["kind"] == "logits":
            yield check_logits(model, answer)
        else:
            yield check_perplexity(model, tokenizer, answer, texts)
