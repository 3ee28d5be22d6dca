"""Text files before training: their tokens, by the rules of "Text files" in models/FORMAT.md, and repair of the faults

that public sets have. `tern` reads text in the same way (cpp/text/documents.cc). What is made of whole texts is in
lm/text/corpus.py.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

BOS, EOS = 254, 255  # before a text and after a document; neither occurs in UTF-8
SEPARATOR = "<|endoftext|>"
OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # the other one begins like the first
_SEPARATOR_LINE = re.compile(rb"^<\|endoftext\|>(?:\n|\Z)", re.MULTILINE)

# The characters that the bytes 0x80..0xBF become when UTF-8 is read as Windows-1252 (five of them are undefined there
# and come through as control characters).
_UNDEFINED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)
_CONTINUATION = "".join(chr(b) if b in _UNDEFINED else bytes([b]).decode("cp1252") for b in range(0x80, 0xC0))
_MOJIBAKE = re.compile(f"[\u00c2-\u00c5][{re.escape(_CONTINUATION)}]|\u00e2\u20ac[{re.escape(_CONTINUATION)}]?")


def encode(file: bytes) -> np.ndarray:
    """The bytes of a text file -> uint8 tokens. ValueError for UTF-16 and UTF-32."""
    if file.startswith(OTHER_MARKS):
        raise ValueError("expected UTF-8, found the byte order mark of UTF-16 or UTF-32; convert it first")
    text = file.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return np.frombuffer(_SEPARATOR_LINE.sub(bytes([EOS]), text), dtype=np.uint8)


def raw_bytes(tokens: np.ndarray) -> int:
    """Bytes of the text these tokens are made of, with LF line ends: EOS stands for a line of 14 bytes."""
    return int(tokens.size + len(SEPARATOR) * np.count_nonzero(tokens == EOS))


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
