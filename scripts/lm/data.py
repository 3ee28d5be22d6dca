"""Text to the byte stream a model trains and is scored on.

A token is a byte. In a text file a line `<|endoftext|>` ends a document: the line, with its newline, becomes the one
byte 255. Nothing else is inserted, so the stream is document, 255, document, 255, ...; byte 254 (BOS) is fed only once,
before the first byte of a stream, and is never in a file. `tern eval` reads text in the same way.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lm.arch.hgrnbit import EOS

SEPARATOR = "<|endoftext|>"
_SEPARATOR_LINE = re.compile(rb"^<\|endoftext\|>(?:\n|\Z)", re.MULTILINE)

# The characters that the bytes 0x80..0xBF become when UTF-8 is read as Windows-1252 (five of them are undefined there
# and come through as control characters).
_CONTINUATION = "".join(
    bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b) for b in range(0x80, 0xC0)
)
_MOJIBAKE = re.compile(f"[\u00c2-\u00c5][{re.escape(_CONTINUATION)}]|\u00e2\u20ac[{re.escape(_CONTINUATION)}]?")


def encode(text: bytes) -> np.ndarray:
    """The bytes of a text file -> uint8 tokens: separator lines become EOS, everything else stays."""
    return np.frombuffer(_SEPARATOR_LINE.sub(bytes([EOS]), text), dtype=np.uint8)


def repair(text: str) -> str:
    """Undoes the damage that is certain: UTF-8 that was read as Windows-1252 (`â€œ` for a quotation mark), and CRLF.

    Only Latin letters (U+00A0..U+017F, lead byte 0xC2..0xC5) and the punctuation of U+2000..U+203F (lead bytes 0xE2
    0x80) are restored: their damaged forms do not occur in real text. A lone `â€` lost a byte that Windows-1252 does
    not define; it was the closing quotation mark.
    """
    return _MOJIBAKE.sub(_restore, text.replace("\r\n", "\n"))


def _restore(match: re.Match[str]) -> str:
    damaged = match.group()
    if len(damaged) == 2 and damaged[0] == "\u00e2":
        return "\u201d"
    raw = b"".join(bytes([ord(c)]) if ord(c) < 256 else c.encode("cp1252") for c in damaged)
    return raw.decode("utf-8")


@dataclass
class Counts:
    """What prepare() did."""

    bytes: int = 0
    documents: int = 0
    repaired_lines: int = 0


def text_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given; of a folder its .txt and .txt.xz files, sorted. Error if there is none."""
    found: list[Path] = []
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
    """Text files (.txt, .txt.xz) -> one file of tokens; a file that does not end its last document gets an EOS.

    Reads line by line, so the size of the text does not matter.
    """
    counts = Counts()
    with open(out, "wb") as tokens:

        def put(chunk: bytes) -> None:
            tokens.write(chunk)
            counts.bytes += len(chunk)

        for path in inputs:
            ended = True
            for line in _lines(path):
                ended = line.rstrip("\r\n") == SEPARATOR
                if ended:
                    put(bytes([EOS]))
                    counts.documents += 1
                    continue
                repaired = repair(line)
                counts.repaired_lines += repaired != line
                put(repaired.encode("utf-8"))
            if not ended:
                put(bytes([EOS]))
                counts.documents += 1
    return counts


def open_tokens(path: Path) -> np.ndarray:
    """A file made by prepare() as a read-only memory map of uint8 tokens."""
    return np.memmap(path, dtype=np.uint8, mode="r")
