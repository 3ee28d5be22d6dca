"""GGUF files of BitNet as llama.cpp and microsoft/BitNet write them: what is computed, and their tensors one at a time.

Architectures `bitnet-25` and `bitnet-b1.58` (2B-4T: relu^2), `bitnet` (SiLU), and `llama` with ternary matrices, whose queries and
keys are permuted there: of a head, channels that turn together lie beside each other. Ternary types: TQ1_0, TQ2_0, I2_S.

I2_S (type 36) is 2 bits a weight and one float32 for the matrix behind them. Three builds of microsoft/BitNet write three orders
under this one number (ORDERS), and no file says which: all have the same codes, in other places. What a trained matrix tells is
that its columns are not alike: those that a norm makes large have another share of zeros than those it makes small. So in
the right order the shares follow the norm's weights, in a wrong one hardly (i2_s_order).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from lm.arch import bitnet
from lm.file.published import Published, bitnet_shapes
from lm.file.weights import Checkpoint, Weight

I2_S = 36
FIRST_FIELD_HIGHEST = np.array([6, 4, 2, 0], np.uint8)[:, None]
ORDERS = {  # which weights share a byte; its bits 7 and 6 have the first of them. -> multiples of columns and of rows
    "x86": (
        128,
        1,
    ),  # with ACT_PARALLEL, the default, and the published file's: c, c + 32, c + 64, c + 96 of 128 columns
    "x86-rows": (1, 4),  # without it: four rows of a column
    "arm": (64, 1),  # c, c + 16, c + 32, c + 48 of 64 columns
}
NORM_BEFORE = {
    "attn_q": "attn_norm",
    "attn_k": "attn_norm",
    "attn_v": "attn_norm",
    "attn_output": "attn_sub_norm",
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
    "ffn_down": "ffn_sub_norm",
}
LOOKED_AT = 64 << 20  # bytes of matrices that tell the order
TERNARY = {int(GGMLQuantizationType.TQ1_0), int(GGMLQuantizationType.TQ2_0), I2_S}
ARCHITECTURES = ("bitnet-25", "bitnet-b1.58", "bitnet", "llama")
VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
NAMES = {  # ours -> theirs, outside of blocks and inside
    "embeddings.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "attn_norm": "attn_norm",
    "attn.q_proj": "attn_q",
    "attn.k_proj": "attn_k",
    "attn.v_proj": "attn_v",
    "attn.sub_norm": "attn_sub_norm",
    "attn.o_proj": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.sub_norm": "ffn_sub_norm",
    "mlp.down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: rows first; `at` counts from the beginning of the file."""

    shape: tuple[int, ...]
    kind: int
    at: int


def is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def directory(path: Path) -> tuple[dict, dict[str, Entry]]:
    """Keys (of arrays the items) and tensors of a GGUF file, of any type of tensor. ValueError: not one, or cut off."""
    with path.open("rb") as file:

        def take(form: str) -> tuple:
            raw = file.read(struct.calcsize(form))
            if len(raw) < struct.calcsize(form):
                raise ValueError(f"{path}: ends in the middle of its directory: get it once more")
            return struct.unpack(form, raw)

        def text() -> str:
            (length,) = take("<Q")
            if length > path.stat().st_size:
                raise ValueError(f"{path}: a name of {length} bytes; expected a GGUF file that is whole")
            return take(f"<{length}s")[0].decode("utf-8", "replace")

        def value(kind: int):
            if kind == 8:
                return text()
            if kind == 9:
                item, count = take("<IQ")
                return [value(item) for _ in range(count)]
            if kind not in VALUES:
                raise ValueError(f"{path}: a key of type {kind}; expected 0 to 12")
            return take("<" + VALUES[kind])[0]

        magic, version, tensors, keys = take("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise ValueError(f"{path}: expected GGUF version 2 or 3, found {magic!r} {version}")
        found = {}
        for _ in range(keys):
            name = text()
            found[name] = value(take("<I")[0])
        entries = {}
        for _ in range(tensors):
            name, (dimensions,) = text(), take("<I")
            entries[name] = (take(f"<{dimensions}Q")[::-1], *take("<IQ"))
        alignment = found.get("general.alignment", 32)
        start = -(-file.tell() // alignment) * alignment
    return found, {name: Entry(shape, kind, start + at) for name, (shape, kind, at) in entries.items()}


def open_gguf(path: Path, order: str = "auto") -> tuple[Published, Checkpoint]:
    """order: of I2_S, one of ORDERS, or what its matrices say.

    ValueError: another architecture, a setting that is not computed here, a type that is not read, an order that is none.
    """
    keys, entries = directory(path)
    name = keys.get("general.architecture")
    if name not in ARCHITECTURES:
        raise ValueError(f"{path}: general.architecture is {name!r}; expected {', '.join(ARCHITECTURES)}")
    config = _config(path, name, keys, entries)

    def rotated(key: str) -> int | None:
        """Heads of a matrix whose rows are permuted."""
        part = key.split(".")[-2]
        return {"attn_q": config.heads, "attn_k": config.kv_heads}.get(part) if name == "llama" else None

    size = path.stat().st_size
    for key, entry in entries.items():
        end = entry.at + _Load(path, key, entry).bytes()
        if end > size:
            raise ValueError(f"{path}: has {size} bytes, but {key} ends at byte {end}: get it once more")
    if order == "auto":
        order = i2_s_order(path, entries)
    tensors: Checkpoint = {}
    for key, entry in entries.items():
        if key == "rope_freqs.weight" or key.endswith(".scale"):
            continue  # the first is refused below where it says something; a scale goes with its matrix
        load = _Load(path, key, entry, entries.get(key.removesuffix("weight") + "scale"), rotated(key), order)
        tensors[key] = Weight(entry.shape, load, packed=entry.kind in TERNARY)
    return Published(config, _their_name, bitnet_shapes(config)), tensors


def i2_s_codes(packed: np.ndarray, rows: int, cols: int, order: str) -> np.ndarray:
    """packed [rows cols / 4] uint8 -> [rows, cols] of 0 to 3, the weight plus 1."""
    together = {"x86": 32, "x86-rows": cols, "arm": 16}[order]
    return (packed.reshape(-1, 1, together) >> FIRST_FIELD_HIGHEST & 3).reshape(rows, cols)


def _fits(order: str, rows: int, cols: int) -> bool:
    return cols % ORDERS[order][0] == 0 and rows % ORDERS[order][1] == 0


def i2_s_order(path: Path, entries: dict[str, Entry]) -> str:
    """Which of ORDERS the matrices of a file have: the published one where they do not say, as in a file without any.

    Per order the mean over matrices of z^2 (n - 3), where z is Fisher's of the rank correlation between the columns' shares
    of zeros and the norm's weights: 1 where there is none. (tinystories-7m packed in each order, with the
    correlation of logarithms: 18 in the right one, 1 to 4 in the others.) ValueError: more than one order is likely.
    """
    evidence, looked_at = {order: [] for order in ORDERS}, 0
    matrices = [(name, entry) for name, entry in entries.items() if entry.kind == I2_S]
    for name, entry in sorted(matrices, key=lambda item: int(np.prod(item[1].shape, dtype=np.int64))):
        part, (rows, cols) = name.split(".")[-2], entry.shape
        norm = entries.get(name.replace(part, NORM_BEFORE.get(part, ""))) if part in NORM_BEFORE else None
        if norm is None or norm.shape != (cols,) or not all(_fits(order, rows, cols) for order in ORDERS):
            continue
        looked_at += rows * cols // 4
        if looked_at > LOOKED_AT and evidence["x86"]:
            break
        weights = np.abs(_Load(path, name, norm)().numpy())
        packed = np.fromfile(path, np.uint8, rows * cols // 4, offset=entry.at)
        for order, found in evidence.items():
            zeros = (i2_s_codes(packed, rows, cols, order) == 1).mean(0)
            found.append(np.arctanh(_rank_correlation(zeros, weights)) ** 2 * (cols - 3))
    means = {order: float(np.mean(found)) for order, found in evidence.items() if found}
    first, second, *_ = *sorted(means, key=means.__getitem__, reverse=True), *ORDERS
    if not means or means[first] < 4:
        return "x86"
    if means[first] < 2 * means[second]:
        raise ValueError(
            f"{path}: its I2_S matrices may be in the order {first} or {second} and do not say which: decide with "
            f"--i2-s-order ({', '.join(ORDERS)}; microsoft/BitNet builds on x86 write x86, on ARM arm), then verify"
        )
    return first


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b)]
    return float(np.clip(np.corrcoef(*ranks)[0, 1], -0.999, 0.999))


def _config(path: Path, name: str, keys: dict, entries: dict[str, Entry]) -> bitnet.Config:
    def number(key: str, otherwise: float | None = None) -> float:
        value = keys.get(f"{name}.{key}", otherwise)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
            raise ValueError(f"{path}: {name}.{key} is {value!r}; expected a number above 0")
        return value

    if keys.get(f"{name}.rope.scaling.type", "none") not in ("none", "") or "rope_freqs.weight" in entries:
        raise ValueError(f"{path}: the rotation is scaled; only the plain one is computed here")
    heads, hidden = int(number("attention.head_count")), int(number("embedding_length"))
    width = int(number("attention.key_length", hidden // heads))
    if int(number("rope.dimension_count", width)) != width:
        raise ValueError(f"{path}: {name}.rope.dimension_count is not the width {width} of a head")
    if "token_embd.weight" not in entries:
        raise ValueError(f"{path}: expected a tensor token_embd.weight, found none")
    return bitnet.Config(
        vocab_size=entries["token_embd.weight"].shape[0],
        hidden=hidden,
        intermediate=int(number("feed_forward_length")),
        layers=int(number("block_count")),
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_width=width,
        context=int(number("context_length", 2048)),
        activation="relu2" if name in ("bitnet-25", "bitnet-b1.58") else "silu",
        sub_norms="blk.0.attn_sub_norm.weight" in entries,
        tied="output.weight" not in entries,
        rope_base=number("rope.freq_base", 10000.0),
        eps=float(np.format_float_positional(np.float32(number("attention.layer_norm_rms_epsilon", 1e-5)))),
    )


def _their_name(parameter: str) -> str:
    if not parameter.startswith("layers."):
        return NAMES[parameter]
    _, block, inside = parameter.split(".", 2)
    return f"blk.{block}.{NAMES[inside.removesuffix('.weight')]}.weight"


@dataclass(frozen=True)
class _Load:
    path: Path
    name: str
    entry: Entry
    scale: Entry | None = None  # a tensor with one number that the matrix is multiplied by
    heads: int | None = None
    order: str = "x86"  # of I2_S

    def bytes(self) -> int:
        count = int(np.prod(self.entry.shape, dtype=np.int64))
        if self.entry.kind == I2_S:
            return count // 4 + 32
        try:
            block, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType(self.entry.kind)]
        except (ValueError, KeyError):
            raise ValueError(f"{self.path}: {self.name} is of type {self.entry.kind}, which is not read here") from None
        return count // block * size

    def __call__(self) -> Tensor | tuple[np.ndarray, float]:
        raw = np.fromfile(self.path, np.uint8, self.bytes(), offset=self.entry.at)
        rows, cols = self.entry.shape[0], self.entry.shape[-1]
        if self.entry.kind not in TERNARY:
            kind = GGMLQuantizationType(self.entry.kind)
            values = gguf.quants.dequantize(raw.reshape(rows if len(self.entry.shape) > 1 else 1, -1), kind)
            return torch.from_numpy(np.array(values, np.float32).reshape(self.entry.shape))
        codes, scale = self.i2_s(raw, rows, cols) if self.entry.kind == I2_S else self.blocks(raw, rows, cols)
        if self.scale is not None:
            scale *= float(_Load(self.path, "scale", self.scale)().flatten()[0])
        if not (np.isfinite(scale) and scale >= 0):
            raise ValueError(f"{self.path}: the scale of {self.name} is {scale}; expected a finite number of 0 or more")
        if self.heads is not None:
            pairs = codes.reshape(self.heads, -1, 2, cols)
            codes = pairs.swapaxes(1, 2).reshape(rows, cols)
        return np.ascontiguousarray(codes), scale

    def i2_s(self, raw: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, float]:
        if not _fits(self.order, rows, cols):
            raise ValueError(
                f"{self.path}: {self.name} is {rows} x {cols}; expected rows by {ORDERS[self.order][1]} and columns by "
                f"{ORDERS[self.order][0]} in I2_S of the order {self.order}: try another with --i2-s-order"
            )
        codes = i2_s_codes(raw[: rows * cols // 4], rows, cols, self.order)
        if (codes == 3).any():
            raise ValueError(
                f"{self.path}: {self.name} has the code 3, which I2_S never has: it is damaged, or no I2_S"
            )
        scale = float(raw[rows * cols // 4 :][:4].view(np.float32)[0])
        return codes.astype(np.int8) - np.int8(1), scale

    def blocks(self, raw: np.ndarray, rows: int, cols: int) -> tuple[np.ndarray, float]:
        kind = GGMLQuantizationType(self.entry.kind)
        size = gguf.GGML_QUANT_SIZES[kind][1]
        scales = np.unique(raw.reshape(-1, size)[:, -2:].copy().view(np.float16).astype(np.float32))
        largest = float(scales.max())
        if not set(scales.tolist()) <= {0.0, largest}:  # a block of zeros has the scale 0
            raise ValueError(
                f"{self.path}: {self.name} has {len(scales)} scales; expected one for the matrix, as in models trained with "
                "ternary weights"
            )
        values = gguf.quants.dequantize(raw.reshape(rows, -1), kind)
        return np.sign(values).astype(np.int8), largest
