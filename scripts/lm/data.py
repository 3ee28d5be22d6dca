"""Text as bytes: `<|endoftext|>` lines become byte 255, and a batch is rows of consecutive bytes of shuffled documents."""

import lzma
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .arch.hgrnbit import BOS, EOS
from .text import encode


def read_text(path: str | Path) -> np.ndarray:
    """The tokens (uint8) of a text file, .xz unpacked: see text.encode."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such text file; scripts/prepare_data says where to get one")
    raw = lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()
    if not raw:
        raise ValueError(f"{path}: the file is empty")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None
    return encode(raw)


def documents(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All texts as one uint8 array, and where each document starts (with the total length at the end)."""
    stream = np.concatenate([read_text(p) for p in paths])
    ends = np.flatnonzero(stream == EOS) + 1
    if len(ends) == 0 or ends[-1] != len(stream):
        ends = np.append(ends, len(stream))
    return stream, np.concatenate(([0], ends))


def inputs_and_targets(window: np.ndarray) -> tuple[Tensor, Tensor]:
    """[B, T+1] bytes -> inputs [B,T] and targets [B,T] one byte later.  The only shift in the project.

    The byte that ends a document is a target as EOS and an input as BOS: one symbol, "between documents".
    """
    tokens = torch.from_numpy(window.astype(np.int64))
    inputs = tokens[:, :-1].clone()
    inputs[inputs == EOS] = BOS
    return inputs, tokens[:, 1:].contiguous()


class Stream:
    """Endless batches: every epoch shuffles the documents and deals the result to B rows, each read in order."""

    def __init__(self, paths: list[str], batch: int, length: int, seed: int):
        self.bytes, self.starts = documents(paths)
        self.batch, self.length, self.seed = batch, length, seed
        self.steps_per_epoch = (len(self.bytes) // batch - 1) // length
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{', '.join(paths)}: {len(self.bytes)} bytes are too few for one batch of {batch} x {length}"
            )

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) from the given step on, so that a resumed run reads what an uninterrupted one would."""
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.starts) - 1)
            shuffled = np.concatenate([self.bytes[self.starts[i] : self.starts[i + 1]] for i in order])
            rows = shuffled[: len(shuffled) // self.batch * self.batch].reshape(self.batch, -1)
            for k in range(first, self.steps_per_epoch):
                yield inputs_and_targets(rows[:, k * self.length : (k + 1) * self.length + 1])
                step += 1
