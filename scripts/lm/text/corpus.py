"""From text files to training data: documents, repaired, each once, split into a training and a validation part.

Document by document, so that the size of a text does not matter. What is written is either text with a separator line
after each document (.txt, which is also what `tern eval` reads) or the bytes that a model sees, each document ended by the
byte 255 (.bin; training and scripts/evaluate.py read it without copying it into memory).
"""

from __future__ import annotations

import codecs
import hashlib
import lzma
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lm.text.encoding import EOS, SEPARATOR, repair
from lm.text.files import replacing

_ARTICLE = re.compile(r"^ = [^=].* = $")  # the title of a WikiText article; sections have more signs


@dataclass
class Counts:
    """What was read and written."""

    documents: int = 0  # written
    duplicates: int = 0  # left out: an earlier document is the same
    repaired_lines: int = 0
    train_bytes: int = 0
    valid_bytes: int = 0
    valid_documents: int = 0


def lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text, .xz unpacked; ValueError names the file and the first byte that is not UTF-8."""
    opener, offset = lzma.open if path.suffix == ".xz" else open, 0
    with opener(path, "rb") as file:
        for line in file:
            try:
                yield line.removeprefix(b"" if offset else codecs.BOM_UTF8).decode("utf-8")
            except UnicodeDecodeError as fault:
                place = f"byte {offset + fault.start} is 0x{line[fault.start]:02x}"
                raise ValueError(f"{path} is not UTF-8 text: {place}; convert it first") from None
            offset += len(line)


def separated(text: Iterable[str]) -> Iterator[list[str]]:
    """Lines -> documents: a separator line ends one."""
    document = []
    for line in text:
        if line.rstrip("\r\n") == SEPARATOR:
            yield document
            document = []
        else:
            document.append(line)
    yield document


def articles(text: Iterable[str]) -> Iterator[list[str]]:
    """Lines of a WikiText file -> its articles, each with its title."""
    document = []
    for line in text:
        if _ARTICLE.match(line.rstrip("\r\n")):
            yield document
            document = []
        document.append(line)
    yield document


def repaired(documents: Iterable[list[str]], counts: Counts) -> Iterator[str]:
    """Documents that are not empty, each line repaired, ended by a newline."""
    for document in documents:
        fixed = [repair(line) for line in document]
        counts.repaired_lines += sum(old != new for old, new in zip(document, fixed))
        text = "".join(fixed)
        if text.strip():
            yield text if text.endswith("\n") else text + "\n"


def documents_of(path: Path, split: Callable = separated) -> Iterator[str]:
    """The repaired documents of a text file; those of a .bin file as they are."""
    if path.suffix == ".bin":
        return (part.decode("utf-8") for part in path.read_bytes().split(bytes([EOS])) if part)
    return repaired(split(lines(path)), Counts())


def fingerprint(document: str) -> int:
    """64 bits of the content without the white space around it: equal for equal documents."""
    return int.from_bytes(hashlib.blake2b(document.strip().encode(), digest_size=8).digest(), "big")


class Writer:
    """Documents as a text of the kind that the name `path` says, at `partial`."""

    def __init__(self, path: Path, partial: Path):
        if path.suffix not in (".txt", ".bin"):
            raise ValueError(f"{path}: expected a name that ends in .bin (for training) or .txt")
        self.path, self.bytes = path, 0
        self.end = bytes([EOS]) if path.suffix == ".bin" else f"{SEPARATOR}\n".encode()
        self.file = open(partial, "wb")

    def add(self, document: str) -> None:
        self.bytes += self.file.write(document.encode() + self.end)


def in_validation(mark: int, share: float) -> bool:
    """Whether the document of this fingerprint is held out: the same answer in every corpus it is part of."""
    return mark / 2**64 < share


def write(
    documents: Iterable[str],
    train: Path,
    valid: Path | None,
    share: float,
    seen: set[int],
    counts: Counts,
) -> None:
    """Writes each document that is not in `seen` (fingerprints; grows) once: about `share` of them to `valid`.

    Files appear only when every document was read; ValueError when one of them would be empty.
    """
    paths = [path for path in (train, valid) if path is not None]
    with ExitStack() as files:
        writers = [Writer(path, files.enter_context(replacing(path))) for path in paths]
        for writer in writers:
            files.enter_context(writer.file)
        for document in documents:
            mark = fingerprint(document)
            if mark in seen:
                counts.duplicates += 1
                continue
            seen.add(mark)
            held_out = valid is not None and in_validation(mark, share)
            writers[held_out].add(document)
            counts.documents += 1
            counts.valid_documents += held_out
        for writer in writers:
            if writer.bytes == 0:
                raise ValueError(f"{writer.path} would be empty: of {counts.documents} documents none belongs there")
    counts.train_bytes += writers[0].bytes
    counts.valid_bytes += sum(writer.bytes for writer in writers[1:])
