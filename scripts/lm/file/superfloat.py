"""SuperFloat: numbers of x bits, 3 to 16, a sign and x - 1 bits of magnitude below 1, with or without a scale per row.

Source: aloshdenny/superfloat, whose numbers are Q0.(x-1), clamped.  Different here: the optional scale per row, and minus
zero is zero.  Rounding that spares a layer's outputs is GPTQ (arXiv 2210.17323), here on row scales and these numbers.
How they lie in a file: models/FORMAT.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np

WIDTHS = range(3, 17)
BLOCK = 8  # numbers, of x bytes together
FIRST_TYPE = 1000  # in a file, SFx is the tensor type 1000 + x
CLIPS = np.linspace(1.0, 0.5, 11)  # of a row's largest magnitude: what may become the largest number
DAMPING = 0.01  # of the mean square of an input, added to each: inputs that a text hardly uses are not free


def _tensor_type(bits: int) -> gguf.GGMLQuantizationType:
    member = int.__new__(gguf.GGMLQuantizationType, FIRST_TYPE + bits)
    member._name_, member._value_ = f"SF{bits}", FIRST_TYPE + bits
    return member


# The package gguf knows ggml's types only; with these it reads and writes files that have ours, too.
TYPES = {bits: _tensor_type(bits) for bits in WIDTHS}
_BY_NUMBER = {int(kind): kind for kind in TYPES.values()}
gguf.GGMLQuantizationType._missing_ = classmethod(lambda cls, number: _BY_NUMBER.get(number))
gguf.GGML_QUANT_SIZES.update({kind: (BLOCK, bits) for bits, kind in TYPES.items()})


def check_width(bits: int) -> None:
    if bits not in WIDTHS:
        raise ValueError(
            f"SF{bits} has no numbers: a width is {WIDTHS[0]} (a sign and two bits) to {WIDTHS[-1]}; the smallest file has "
            f"{WIDTHS[0]}, and from 9 on nothing is lost that int8 activations would show"
        )


@dataclass(frozen=True)
class Numbers:
    """A matrix or a row [rows, cols] as SFx: codes / 2^(bits - 1), times its row's scale where there are scales."""

    codes: np.ndarray  # [rows, cols] int32
    bits: int
    scales: np.ndarray | None  # [rows] float32

    @property
    def values(self) -> np.ndarray:
        """[rows, cols] float32."""
        unit = np.float32(2.0 ** (1 - self.bits))
        scales = 1 if self.scales is None else self.scales[:, None]
        return (self.codes * unit * scales).astype(np.float32)

    @property
    def bytes(self) -> int:
        """Of the file, scales included."""
        rows, cols = self.codes.shape
        scales = 0 if self.scales is None else as_stored(self.scales).nbytes
        return rows * -(-cols // BLOCK) * self.bits + scales


def share_clamped(values: np.ndarray, bits: int) -> float:
    """The share of numbers that a width without scales moves to the ends of its range."""
    largest = 1 - 2.0 ** (1 - bits)
    return float(np.mean(np.abs(values) > largest + 2.0**-bits))


def as_stored(scales: np.ndarray) -> np.ndarray:
    """In 16 bits where those have all their digits."""
    used = scales[scales > 0]
    fits = used.size == 0 or (used.min() >= 2.0**-14 and used.max() <= 65504)
    if not fits:
        return scales.astype(np.float32)
    halves = scales.astype(np.float16)
    return np.where(
        halves < scales, np.nextafter(halves, np.float16(np.inf)), halves
    )  # up: nothing is clamped for that


def _codes(values: np.ndarray, bits: int, scales: np.ndarray | None) -> np.ndarray:
    most = 2 ** (bits - 1) - 1
    divisor = 1.0 if scales is None else np.where(scales > 0, scales, 1)[:, None]
    return np.clip(np.rint(values / divisor * 2.0 ** (bits - 1)), -most, most).astype(np.int32)


class Rounding:
    """Rounds [rows, cols] so that a row's sums over inputs like those of a text move as little as may be.

    moments [cols, cols]: sum of x x^T over the inputs x of the text. The columns are rounded one after another, those with the
    largest inputs first, and what a column's rounding does to the sums is taken back by the columns still to come (GPTQ).
    """

    def __init__(self, moments: np.ndarray):
        moments = moments.astype(np.float64) / max(np.trace(moments) / len(moments), 1e-30)
        self.moments = moments
        self.order = np.argsort(-np.diag(moments), kind="stable")
        damped = moments[np.ix_(self.order, self.order)] + DAMPING * np.eye(len(moments))
        self.step = np.linalg.cholesky(
            np.linalg.inv(damped)
        ).T  # row j: what one unit of column j's error costs the later ones

    def codes(self, values: np.ndarray, bits: int, scales: np.ndarray | None) -> np.ndarray:
        left, codes = values[:, self.order].astype(np.float64), np.empty(values.shape, np.int32)
        divisor = np.full(len(values), 2.0 ** (1 - bits)) * (1.0 if scales is None else scales)
        for j, column in enumerate(self.order):
            codes[:, column] = _codes(left[:, j : j + 1], bits, scales)[:, 0]
            error = (left[:, j] - codes[:, column] * divisor) / self.step[j, j]
            left[:, j + 1 :] -= np.outer(error, self.step[j, j + 1 :])
        return codes

    def error(self, moved: np.ndarray) -> np.ndarray:
        """[rows, cols], by how much the numbers moved -> [rows], mean square of what that does to a row's sum."""
        return np.einsum("rc,rc->r", moved @ self.moments, moved)


def quantize(
    values: np.ndarray, bits: int, scaled: bool, clip: bool = False, rounding: Rounding | None = None
) -> Numbers:
    """[rows, cols] float -> SFx, each number the nearest one, or as `rounding` has it.

    scaled: a scale per row, with which its largest magnitude is the largest number; else what is beyond that is clamped.
    clip: of several smaller scales, which clamp, the one with the least squared error of the row (of its sums by `rounding`).
    """
    check_width(bits)
    values = np.atleast_2d(np.asarray(values, dtype=np.float32))
    if not np.isfinite(values).all():
        raise ValueError("expected finite numbers, found others: this checkpoint is damaged or did not train")
    codes_of = _codes if rounding is None else rounding.codes
    error_of = (lambda moved: np.square(moved).sum(1)) if rounding is None else rounding.error
    if not scaled:
        return Numbers(codes_of(values, bits, None), bits, None)
    most = 2 ** (bits - 1) - 1
    largest = np.abs(values).max(1) * 2.0 ** (bits - 1) / most
    best = None
    clips = CLIPS[:: 1 if rounding is None else 2] if clip and bits <= 8 else CLIPS[:1]
    for factor in clips:
        scales = as_stored((largest * factor).astype(np.float32)).astype(np.float32)
        tried = Numbers(codes_of(values, bits, scales), bits, scales)
        error = error_of(tried.values - values)
        if best is None:
            best = tried, error
            continue
        better = error < best[1]
        codes = np.where(better[:, None], tried.codes, best[0].codes)
        best = Numbers(codes, bits, np.where(better, scales, best[0].scales)), np.where(better, error, best[1])
    return best[0]


def pack(numbers: Numbers) -> np.ndarray:
    """-> [rows, bytes of a row]: sign above magnitude, from the lowest bit of the first byte on."""
    codes = np.pad(numbers.codes, ((0, 0), (0, -numbers.codes.shape[1] % BLOCK)))
    words = np.abs(codes) | (codes < 0).astype(np.int32) << (numbers.bits - 1)
    bits = (words[..., None] >> np.arange(numbers.bits)) & 1
    return np.packbits(bits.reshape(codes.shape[0], -1).astype(np.uint8), axis=1, bitorder="little")


def unpack(rows: np.ndarray, bits: int) -> np.ndarray:
    """[rows, bytes] -> codes [rows, cols], padding included."""
    unpacked = np.unpackbits(np.ascontiguousarray(rows), axis=1, bitorder="little")
    words = unpacked.reshape(rows.shape[0], -1, bits).astype(np.int32)
    magnitude = (words[..., :-1] << np.arange(bits - 1)).sum(-1)
    return np.where(words[..., -1] == 1, -magnitude, magnitude)
