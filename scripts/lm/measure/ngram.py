"""A byte n-gram model with interpolated Kneser-Ney smoothing: what counting alone can do, for comparison.

Source: Kneser and Ney 1995; Chen and Goodman 1998 (TR-10-98), section 3. One discount per order, n1 / (n1 + 2 n2).
Different here: bytes, so the last resort is 1/256 for each.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass

import numpy as np

from lm.text.encoding import EOS

SYMBOLS = 256
LONGEST = 7  # bytes that fit the keys, with a shift to spare


@dataclass
class Level:
    """The grams of one length. Keys are the bytes of a gram, first byte in the highest place; all arrays sorted by key."""

    grams: np.ndarray  # uint64
    counts: np.ndarray  # how often; below the highest level: after how many different bytes (continuation counts)
    contexts: np.ndarray  # the grams without their last byte, once each
    totals: np.ndarray  # sum of the counts after each context
    kinds: np.ndarray  # how many different bytes follow each context
    discount: float


def keys(stream: np.ndarray, n: int) -> np.ndarray:
    """uint8 stream -> the gram of length n that ends at each position; before the stream there are document ends."""
    padded = np.concatenate((np.full(n - 1, EOS, np.uint8), stream)).astype(np.uint64)
    gram = np.zeros(stream.size, np.uint64)
    for i in range(n):
        gram = gram << np.uint64(8) | padded[i : i + stream.size]
    return gram


def _level(grams: np.ndarray, counts: np.ndarray) -> Level:
    contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
    once, twice = (int((counts == k).sum()) for k in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    return Level(
        grams,
        counts,
        contexts,
        totals=np.add.reduceat(counts, first),
        kinds=np.diff(np.append(first, grams.size)),
        discount=discount,
    )


def train(stream: np.ndarray, n: int) -> list[Level]:
    """Levels of length 1 to n."""
    if not 1 <= n <= LONGEST:
        raise ValueError(f"the order of an n-gram model must be 1 to {LONGEST}, found {n}")
    if stream.size == 0:
        raise ValueError("the text to count is empty")
    grams, counts = np.unique(keys(stream, n), return_counts=True)
    levels = [_level(grams, counts)]
    for length in range(n - 1, 0, -1):
        grams, counts = np.unique(levels[0].grams & np.uint64((1 << 8 * length) - 1), return_counts=True)
        levels.insert(0, _level(grams, counts))
    return levels


def _look_up(sorted_keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.minimum(np.searchsorted(sorted_keys, wanted), sorted_keys.size - 1)
    return np.where(sorted_keys[at] == wanted, values[at], 0)


def probabilities(levels: list[Level], stream: np.ndarray) -> np.ndarray:
    """The probability of every byte of the stream, given those before it."""
    p = np.full(stream.size, 1 / SYMBOLS)
    for length, level in enumerate(levels, 1):
        gram = keys(stream, length)
        count = _look_up(level.grams, level.counts, gram)
        total = _look_up(level.contexts, level.totals, gram >> np.uint64(8))
        kinds = _look_up(level.contexts, level.kinds, gram >> np.uint64(8))
        seen = np.maximum(total, 1)
        mixed = np.maximum(count - level.discount, 0) / seen + level.discount * kinds / seen * p
        p = np.where(total > 0, mixed, p)
    return p


def bits_per_byte(levels: list[Level], stream: np.ndarray) -> float:
    return float(-np.log2(probabilities(levels, stream)).mean())


def _varints(values: np.ndarray) -> bytes:
    """Seven bits a byte, low ones first, the eighth says that more follow; the bytes of one place together."""
    planes, rest = [], values.astype(np.uint64)
    while rest.size:
        more = rest >= 128
        planes.append(((rest & np.uint64(127)) | (more.astype(np.uint64) << np.uint64(7))).astype(np.uint8).tobytes())
        rest = rest[more] >> np.uint64(7)
    return b"".join(planes)


def packed_bytes(levels: list[Level]) -> int:
    """What one would download: the highest level's grams (as differences) and counts, which give all others; xz -9e."""
    top = levels[-1]
    table = _varints(np.diff(top.grams, prepend=np.uint64(0))) + _varints(top.counts)
    return len(lzma.compress(table, preset=9 | lzma.PRESET_EXTREME))
