"""Text as bytes, `<|endoftext|>` lines as byte 255, or as the tokens of a codec; a batch is rows of shuffled documents."""

import hashlib
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lm.text import files
from lm.text.codec import BYTES, Bytes, Pieces
from lm.text.encoding import EOS, encode

CHUNK = 1 << 24  # tokens of a text that are looked at together
PART = 1 << 22  # bytes of a text that are made tokens together


def read_text(path: str | Path) -> np.ndarray:
    """The tokens (uint8) of a text: .bin as scripts/prepare_data.py writes it (memory-mapped), .txt, or .txt.xz."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, expected a text file; scripts/prepare_data.py makes one of it")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such text file; scripts/prepare_data.py makes or downloads one")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    if path.suffix == ".bin":
        return np.memmap(path, dtype=np.uint8, mode="r")
    raw = lzma.open(path).read() if path.suffix == ".xz" else path.read_bytes()
    try:
        tokens = encode(raw)
        raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise ValueError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    return tokens


def read_tokens(path: str | Path, codec: Bytes | Pieces) -> np.ndarray:
    """The tokens of a text. Pieces are found once, kept in the cache of this user, and memory-mapped."""
    text = read_text(path)
    if codec is BYTES:
        return text
    key = hashlib.sha256(codec.source.encode())
    for at in range(0, text.size, PART):
        key.update(text[at : at + PART])
    cached = files.cache() / f"tokens-{key.hexdigest()[:32]}.bin"
    if not cached.exists():
        bar = tqdm(total=text.size, unit="B", unit_scale=True, desc=Path(path).name, disable=None)
        with files.replacing(cached) as partial, open(partial, "wb") as file, bar:
            for part in whole_documents(text):
                file.write(codec.encode(part).tobytes())
                bar.update(part.size)
    return np.memmap(cached, dtype=codec.type, mode="r")


def whole_documents(text: np.ndarray) -> Iterator[np.ndarray]:
    """A text in parts of at least PART bytes that end where a document does."""
    begin = 0
    while begin < text.size:
        stop = begin + PART
        ends = np.flatnonzero(text[stop - 1 : stop + PART] == EOS)
        while not ends.size and stop < text.size:
            stop += PART
            ends = np.flatnonzero(text[stop - 1 : stop + PART] == EOS)
        stop = stop + int(ends[0]) if ends.size else text.size
        yield text[begin:stop]
        begin = stop


class Documents:
    """The documents of several texts, numbered; a text may be larger than the memory."""

    def __init__(self, paths: list[str], codec: Bytes | Pieces = BYTES):
        self.texts = [read_tokens(path, codec) for path in paths]
        tables = []
        for number, text in enumerate(self.texts):
            parts = range(0, len(text), CHUNK)
            ends = np.concatenate([np.flatnonzero(text[k : k + CHUNK] == codec.end) + k + 1 for k in parts])
            if len(ends) == 0 or ends[-1] != len(text):
                ends = np.append(ends, len(text))
            begins = np.concatenate(([0], ends[:-1]))
            tables.append(np.stack([np.full(len(ends), number), begins, ends], 1))
        self.table = np.concatenate(tables).astype(np.int64)  # [documents, 3]: text, begin, end

    def __len__(self) -> int:
        return len(self.table)

    def in_order(self, order: np.ndarray) -> "InOrder":
        return InOrder(self, self.table[order])

    def drawn(self, weights: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
        """Numbers of documents [n] in order: those of text k weights[k] times, the fraction by documents drawn at random.

        They have at least the tokens of `drawn_tokens`, and at most one document of each text more.
        """
        chosen, random = [], np.random.default_rng(seed)
        for text, weight in enumerate(weights):
            own = np.flatnonzero(self.table[:, 0] == text)
            whole, fraction = int(weight), weight - int(weight)
            chosen += [own] * whole
            if fraction > 0:
                shuffled = random.permutation(own)
                read = np.cumsum(self.table[shuffled, 2] - self.table[shuffled, 1])
                chosen.append(shuffled[: int(np.searchsorted(read, fraction * len(self.texts[text]))) + 1])
        return np.sort(np.concatenate(chosen))

    def drawn_tokens(self, weights: np.ndarray) -> int:
        return sum(int(weight * len(text)) for weight, text in zip(weights, self.texts))


class InOrder:
    """Documents one after the other, as if they were one array of tokens."""

    def __init__(self, documents: Documents, table: np.ndarray):
        self.texts, self.table = documents.texts, table
        self.ends = np.cumsum(table[:, 2] - table[:, 1])

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """The tokens from wanted.start to wanted.stop, copied."""
        pieces, at, document = [], wanted.start, int(np.searchsorted(self.ends, wanted.start, "right"))
        while at < wanted.stop:
            text, begin, end = self.table[document]
            first = begin + at - (self.ends[document] - (end - begin))
            piece = self.texts[text][first : min(end, first + wanted.stop - at)]
            pieces.append(piece)
            at, document = at + len(piece), document + 1
        return np.concatenate(pieces)


def inputs_and_targets(window: np.ndarray, codec: Bytes | Pieces = BYTES) -> tuple[Tensor, Tensor]:
    """[B, T+1] tokens -> inputs [B,T] and targets [B,T] one token later.  The only shift in the project.

    What ends a document is a target as `end` and an input as `begin`: one symbol, "between documents".
    """
    tokens = torch.from_numpy(window.astype(np.int64))
    inputs = tokens[:, :-1].clone()
    inputs[inputs == codec.end] = codec.begin
    return inputs, tokens[:, 1:].contiguous()


class Stream:
    """Endless batches: every epoch shuffles the documents and deals the result to B rows, each read in order.

    weights: how often an epoch reads a text, by its path; 1 for those that are not in it.
    """

    def __init__(
        self,
        paths: list[str],
        batch: int,
        length: int,
        seed: int,
        weights: Mapping[str, float] | None = None,
        codec: Bytes | Pieces = BYTES,
    ):
        if not paths:
            raise ValueError("data.train is empty: name at least one text file")
        self.documents, self.codec = Documents(paths, codec), codec
        self.batch, self.length, self.seed = batch, length, seed
        self.weights = np.array([(weights or {}).get(path, 1.0) for path in paths])
        epoch_tokens = self.documents.drawn_tokens(self.weights)
        self.row = epoch_tokens // batch  # tokens of a row in an epoch
        self.steps_per_epoch = (self.row - 1) // length
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{', '.join(paths)}: {epoch_tokens} tokens are too few for one batch of {batch} x {length}"
            )

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) from the given step on, so that a resumed run reads what an uninterrupted one would."""
        while True:
            epoch, first = divmod(step, self.steps_per_epoch)
            drawn = self.documents.drawn(self.weights, (self.seed, epoch, 1))
            shuffled = self.documents.in_order(np.random.default_rng((self.seed, epoch)).permutation(drawn))
            begins = np.arange(self.batch) * self.row
            for k in range(first, self.steps_per_epoch):
                window = [shuffled[int(b) + k * self.length : int(b) + (k + 1) * self.length + 1] for b in begins]
                yield inputs_and_targets(np.stack(window), self.codec)
                step += 1
