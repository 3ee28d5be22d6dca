"""A published checkpoint becomes a model file, tensor by tensor: at any time one of them is in memory.

Master weights are quantised once, here: scale = mean |w| of the stored numbers in float64, codes = round(w / scale) with
ties to even. The published way to run these models is fp16, where the mean and the division round earlier: `Report.flips`
counts the codes that come out differently there. What is ternary already keeps its codes and its scale: the mean of |w| of
such a matrix is smaller than its scale by the share of zeros, a fault of several public exporters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from lm.arch.ternary import FLOOR, embedding_codes
from lm.file import checksum, gguf_file
from lm.file.published import BOUNDS, Published
from lm.file.weights import Checkpoint

ROWS = 512  # of a matrix that are worked on at once
WIDEST_SCALE_ERROR = 2.0**-9  # of a scale in fp16; 2^-11 but for the smallest numbers
NOTHING = 2.0**-60  # times the largest sum of codes (2^23) it is below what any activation notices
EMBEDDINGS = {"I8": GGMLQuantizationType.I8, "F16": GGMLQuantizationType.F16}


@dataclass
class Report:
    """What conversion did to the numbers."""

    weights: int = 0  # ternary ones
    quantised: int = 0  # of them from masters
    flips: int = 0  # codes of those that fp16 arithmetic would have rounded to another value
    kept: list[str] = field(default_factory=list)  # matrices that were ternary already
    scale_error: float = 0.0  # largest relative error of a scale in fp16
    embedding_error: float = 0.0  # root mean square of what the embedding lost, over that of the embedding

    def lines(self) -> Iterator[str]:
        share = 1e6 * self.flips / max(self.quantised, 1)
        yield f"{self.weights:,} ternary weights, {self.quantised:,} of them quantised here"
        if self.quantised:
            yield f"{self.flips:,} codes ({share:.1f} per million) would differ in fp16 arithmetic"
        if self.kept:
            yield f"{len(self.kept)} matrices were ternary already: codes and scales are the checkpoint's"
        yield f"scales in fp16: relative error at most {self.scale_error:.1e}"
        yield f"embedding: relative error {self.embedding_error:.2e}"


# ---- ternary matrices


def quantize(name: str, w: Tensor, report: Report) -> tuple[np.ndarray, float]:
    """[rows, cols] masters -> (codes int8, scale). ValueError: not finite, or ternary with more than one scale."""
    total, top, striped = 0.0, 0.0, w.shape[1] >= 8
    for rows in w.split(ROWS):
        magnitude = rows.abs().double()
        total += float(magnitude.sum())
        if not math.isfinite(total):
            raise ValueError(f"{name}: expected finite weights, found NaN or infinity")
        largest = magnitude.amax(1, keepdim=True)
        top = max(top, float(largest.max()))
        levels = (magnitude == 0) | (magnitude == largest)
        striped = striped and bool(levels.all())
    ternary = striped and top > 0 and _one_magnitude(w, top)
    if striped and top > 0 and not ternary:
        raise ValueError(
            f"{name}: ternary already, with a scale for each row; expected masters, or one scale for the matrix: "
            "quantising it again would shrink its scale by its share of zeros"
        )
    if ternary:
        report.kept.append(name)
        return w.sign().to(torch.int8).numpy(), top
    scale = max(total / w.numel(), FLOOR)
    codes = np.empty(tuple(w.shape), np.int8)
    half = _half_scale(scale)
    for begin in range(0, len(w), ROWS):
        rows = w[begin : begin + ROWS]
        exact = (rows.double() / scale).round_().clamp_(-1, 1).to(torch.int8).numpy()
        codes[begin : begin + ROWS] = exact
        report.flips += int((_half_codes(rows, half) != exact).sum())
    report.quantised += w.numel()
    return codes, scale


def _one_magnitude(w: Tensor, top: float) -> bool:
    return all(bool(((rows == 0) | (rows.abs().double() == top)).all()) for rows in w.split(ROWS))


def _half_scale(mean: float) -> np.float16:
    """1 / mean |w| as their fp16 code has it; the mean is summed in float32 there, and rounded to fp16 once."""
    with np.errstate(over="ignore", divide="ignore"):
        return np.float16(1 / np.float32(np.float16(max(mean, FLOOR))))


def _half_codes(rows: Tensor, scale: np.float16) -> np.ndarray:
    """round(w * scale), the product rounded to fp16."""
    product = rows.half().float() * float(scale)
    return product.half().float().round_().clamp_(-1, 1).to(torch.int8).numpy()


def packed(name: str, codes: np.ndarray, scale: float, ternary_type: str, report: Report) -> np.ndarray:
    """The rows of a ternary tensor as the file has them."""
    report.weights += codes.size
    if scale < NOTHING:
        scale = 0.0
    with np.errstate(over="ignore"):
        half = float(np.float16(scale))
    error = 0.0 if scale == 0 else abs(half - scale) / scale if math.isfinite(half) else math.inf
    if error > WIDEST_SCALE_ERROR:
        raise ValueError(
            f"{name}: its scale {scale:.3g} is no fp16 number (the nearest is {half:.3g}, a file has no other)"
        )
    report.scale_error = max(report.scale_error, error)
    parts = [gguf_file.ternary_blocks(codes[n : n + ROWS], half, ternary_type) for n in range(0, len(codes), ROWS)]
    return np.concatenate(parts)


# ---- other tensors


def embedding(name: str, w: Tensor, kind: str, report: Report) -> tuple[np.ndarray, np.ndarray | None]:
    """[V, H] -> (I8 codes, scale of each row) or (F16, None)."""
    out = np.empty(tuple(w.shape), np.int8 if kind == "I8" else np.float16)
    scales = np.empty(len(w), np.float32) if kind == "I8" else None
    lost = whole = 0.0
    for begin in range(0, len(w), ROWS):
        rows = w[begin : begin + ROWS].float()
        if not bool(rows.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
        if kind == "I8":
            codes, scale = embedding_codes(rows)
            out[begin : begin + ROWS], scales[begin : begin + ROWS] = codes.numpy(), scale.numpy()
            stored = codes.float() * scale[:, None]
        else:
            stored = rows.half().float()
            if not bool(stored.isfinite().all()):
                raise ValueError(f"{name}: has numbers beyond fp16; store it as I8")
            out[begin : begin + ROWS] = rows.half().numpy()
        lost += float((rows - stored).double().square().sum())
        whole += float(rows.double().square().sum())
    report.embedding_error = math.sqrt(lost / whole) if whole else 0.0
    return out, scales


def lower_bounds(learned: Tensor) -> np.ndarray:
    """[layers, E] of the checkpoint -> the bound of each block's forget gate, as the published forward pass has it."""
    bounds = learned.double().softmax(0).cumsum(0)
    return (bounds - bounds[:1]).float().numpy()


# ---- the file


@dataclass(frozen=True)
class Planned:
    """One tensor of the file: made when its turn comes."""

    name: str
    shape: tuple[int, ...]  # rows first; of packed types the bytes of a row
    item: np.dtype
    kind: GGMLQuantizationType
    make: Callable[[], np.ndarray]


def plan(
    published: Published, checkpoint: Checkpoint, ternary_type: str, embedding_type: str, report: Report
) -> Iterator[Planned]:
    """The file's tensors in order; `report` fills while they are made."""
    f32, raw = GGMLQuantizationType.F32, gguf_file.TERNARY_TYPES[ternary_type]
    row_bytes = gguf.GGML_QUANT_SIZES[raw][1]

    def theirs(parameter: str):
        return checkpoint[published.their_name(parameter)]

    def vector(name: str, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> Planned:
        def checked() -> np.ndarray:
            values = np.ascontiguousarray(make(), np.float32).reshape(shape)
            if not np.isfinite(values).all():
                raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
            return values

        return Planned(name, shape, np.dtype(np.float32), f32, checked)

    def ternary(name: str, parameter: str) -> np.ndarray:
        weight, their = theirs(parameter), published.their_name(parameter)
        if weight.packed:
            codes, scale = weight.load()
            report.kept.append(their)
        else:
            codes, scale = quantize(their, weight.load(), report)
        return packed(their, codes, scale, ternary_type, report)

    for name, parameter, kind in published.rows:
        if kind == "matrix":
            rows, cols = theirs(parameter).shape
            size = (rows, -(-cols // gguf_file.BLOCK) * row_bytes)
            make = lambda name=name, parameter=parameter: ternary(name, parameter)  # noqa: E731
            yield Planned(name, size, np.dtype(np.uint8), raw, make)
        elif kind == "ternary":
            rows, cols = theirs(f"{parameter}.weight").shape
            norm = theirs(f"{parameter}.norm.weight")
            yield vector(f"{name}.in_norm.weight", norm.shape, lambda norm=norm: norm.load().float().numpy())
            size = (rows, -(-cols // gguf_file.BLOCK) * row_bytes)
            make = lambda name=name, parameter=parameter: ternary(name, f"{parameter}.weight")  # noqa: E731
            yield Planned(f"{name}.weight", size, np.dtype(np.uint8), raw, make)
        elif kind in ("embedding", "dense"):
            weight, their = theirs(parameter), published.their_name(parameter)
            made: list[np.ndarray] = []  # the codes, which are made together with their scales

            def scales(weight=weight, their=their, made=made) -> np.ndarray:
                codes, scale = embedding(their, weight.load(), embedding_type, report)
                made.append(codes)
                return scale

            if embedding_type == "I8":
                yield vector(f"{name}.scale", weight.shape[:1], scales)
                codes = made.pop
            else:
                codes = lambda weight=weight, their=their: embedding(their, weight.load(), "F16", report)[0]  # noqa: E731
            item = np.dtype(np.int8 if embedding_type == "I8" else np.float16)
            yield Planned(f"{name}.weight", weight.shape, item, EMBEDDINGS[embedding_type], codes)
        elif kind == "lower_bound":
            block = int(parameter.rpartition(".")[2])
            bounds = theirs(BOUNDS)
            make = lambda bounds=bounds, block=block: lower_bounds(bounds.load())[block]  # noqa: E731
            yield vector(name, bounds.shape[1:], make)
        else:
            weight = theirs(parameter)
            shape = (weight.shape[0], weight.shape[2]) if kind == "conv" else weight.shape
            change = (lambda t: t.double().exp()) if kind == "exp" else Tensor.float
            make = lambda weight=weight, change=change: change(weight.load()).numpy()  # noqa: E731
            yield vector(name, shape, make)


def write(
    path: Path,
    published: Published,
    checkpoint: Checkpoint,
    card: gguf_file.Card,
    tokenizer: dict,
    ternary_type: str = "TQ1_0",
    embedding_type: str = "I8",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Writes the file whole or not at all. progress(bytes written, bytes in all) after each tensor.

    ValueError names what is missing, misshapen, not finite, ternary in another way, or beyond a number format.
    """
    checkpoint = published.prepare(checkpoint)
    published.check(checkpoint)
    if published.config.architecture == "bitnet" and embedding_type != "I8":
        raise ValueError(f"a bitnet file has int8 rows for its embedding and head; expected I8, found {embedding_type}")
    report = Report()
    tensors = list(plan(published, checkpoint, ternary_type, embedding_type, report))
    with checksum.whole_file(path) as partial:
        writer = gguf.GGUFWriter(partial, published.config.architecture)
        gguf_file.add_keys(writer, published.config, card, ternary_type, tokenizer)
        for t in tensors:
            writer.add_tensor_info(t.name, t.shape, t.item, math.prod(t.shape) * t.item.itemsize, t.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        whole, done = sum(math.prod(t.shape) * t.item.itemsize for t in tensors), 0
        for t in tensors:
            values = np.ascontiguousarray(t.make())
            if values.shape != t.shape or values.dtype != t.item:
                raise ValueError(f"{t.name}: planned {t.shape} of {t.item}, made {values.shape} of {values.dtype}")
            writer.write_tensor_data(values)
            done += values.nbytes
            progress(done, whole)
        writer.close()
    return report
