"""Text files before training: what a document is, and repair of the faults that public sets have.

A line `<|endoftext|>` ends a document. For a model the line, with its newline, is the one byte 255; nothing else is
inserted. `tern eval` reads text in the same way.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EOS = 255  # as in lm.arch.hgrnbit, which would load PyTorch
SEPARATOR = "<|endoftext|>"
_SEPARATOR_LINE = re.compile(rb"^<\|endoftext\|>(?:\n|\Z)", re.MULTILINE)

# The characters that the bytes 0x80..0xBF become when UTF-8 is read as Windows-1252 (five of them are undefined there
# and come through as control characters).
_UNDEFINED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
_CONTINUATION = "".join(chr(b) if b in _UNDEFINED else bytes([b]).decode("cp1252") for b in range(0x80, 0xC0))
_MOJIBAKE = re.compile(f"[\u00c2-\u00c5][{re.escape(_CONTINUATION)}]|\u00e2\u20ac[{re.escape(_CONTINUATION)}]?")


def encode(text: bytes) -> np.ndarray:
    """The bytes of a text file -> uint8 tokens: separator lines become EOS, everything else stays."""
    return np.frombuffer(_SEPARATOR_LINE.sub(bytes([EOS]), text), dtype=np.uint8)


def repair(text: str) -> str:
    """Undoes the damage that is certain: UTF-8 that was read as Windows-1252 (`â€œ` for a quotation mark), and CRLF.

    Only U+0080..U+017F (lead byte 0xC2..0xC5) and the punctuation U+2000..U+203F (lead bytes 0xE2 0x80) are restored:
    their damaged forms do not occur in real text. A lone `â€` lost a byte that Windows-1252 does not define; it was the
    closing quotation mark.
    """
    return _MOJIBAKE.sub(_restore, text.replace("\r\n", "\n"))


def _restore(match: re.Match[str]) -> str:
    damaged = match.group()
    if damaged == "\u00e2\u20ac":
        return "\u201d"
    raw = b"".join(bytes([ord(c)]) if ord(c) < 256 else c.encode("cp1252") for c in damaged)
    return raw.decode("utf-8")


@dataclass
class Counts:
    """What prepare() wrote."""

    bytes: int = 0
    documents: int = 0
    repaired_lines: int = 0


def text_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given; of a folder its .txt and .txt.xz files, sorted. Error if there is none."""
    paths, found = list(paths), []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.name.endswith((".txt", ".txt.xz")))
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"expected a text file or a folder of text files, found nothing at {path}")
    if not found:
        raise FileNotFoundError(f"no .txt or .txt.xz file in {', '.join(map(str, paths))}")
    return found


def _lines(path: Path) -> Iterator[str]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        try:
            yield from file
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error}") from error


def prepare(inputs: Iterable[Path], out: Path) -> Counts:
    """Joins text files into one that is repaired and in which every document, also a file's last, ends.

    Line by line, so the size of the text does not matter; `out` appears only when every file was read.
    """
    counts = Counts()

    def repair_and_count(line: str) -> str:
        repaired = repair(line)
        counts.repaired_lines += repaired != line
        counts.documents += repaired.rstrip("\n") == SEPARATOR
        return repaired

    partial = out.with_name(out.name + ".part")
    with open(partial, "w", encoding="utf-8", newline="\n") as text:
        for path in inputs:
            line = SEPARATOR + "\n"  # an empty file has no document to end
            for line in map(repair_and_count, _lines(path)):
                text.write(line)
            if not line.endswith("\n"):
                text.write("\n")
            if line.rstrip("\n") != SEPARATOR:
                text.write(SEPARATOR + "\n")
                counts.documents += 1
        counts.bytes = text.tell()
    partial.rename(out)
    return counts
