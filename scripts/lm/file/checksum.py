"""Model files that carry their own SHA-256 (key tern.sha256 of models/FORMAT.md) and appear only when they are whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf

from lm.text.files import replacing

KEY = "tern.sha256"
ZEROS = "0" * 64  # what the digits count as in the sum, and what a writer puts there before it is known
PIECE = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write a model file to: when the block ends well, the file gets its checksum and becomes `path`."""
    with replacing(path) as partial:
        yield partial
        stamp(partial)


def place_of(path: Path) -> int | None:
    """Where in the file the 64 digits are; None if it has no such key."""
    field = gguf.GGUFReader(path).fields.get(KEY)
    if field is None:
        return None
    if len(field.parts[-1]) != len(ZEROS):
        raise ValueError(f"{path}: {KEY} is not 64 digits")
    return field.offset + sum(part.nbytes for part in field.parts[:-1])


def digest(path: Path, place: int) -> str:
    """SHA-256 of the whole file with zeros in place of its own digits."""
    sum_of_all, at = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := bytearray(file.read(PIECE)):
            for n in range(max(place, at), min(place + len(ZEROS), at + len(piece))):
                piece[n - at] = ord("0")
            sum_of_all.update(piece)
            at += len(piece)
    return sum_of_all.hexdigest()


def stamp(path: Path) -> None:
    """Fills the digits in, where the file has the key."""
    place = place_of(path)
    if place is None:
        return
    found = digest(path, place)
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(found.encode())


def check(path: Path) -> bool:
    """False if the file has no checksum; ValueError if it is wrong."""
    place = place_of(path)
    if place is None:
        return False
    with open(path, "rb") as file:
        file.seek(place)
        said = file.read(len(ZEROS)).decode("ascii", "replace")
    if (found := digest(path, place)) != said:
        raise ValueError(f"{path} is damaged: its SHA-256 is {found}, its key {KEY} says {said}; copy it again")
    return True


def add(path: Path) -> None:
    """Puts the key behind the others, where the file has none; its tensors stay byte for byte as they are."""
    reader = gguf.GGUFReader(path)
    if KEY in reader.fields:
        return
    content = path.read_bytes()
    first = min(tensor.field.offset for tensor in reader.tensors)
    last = max(reader.tensors, key=lambda tensor: tensor.field.offset).field
    end = last.offset + sum(part.nbytes for part in last.parts)
    key = KEY.encode()
    entry = len(key).to_bytes(8, "little") + key + int(gguf.GGUFValueType.STRING).to_bytes(4, "little")
    entry += len(ZEROS).to_bytes(8, "little") + ZEROS.encode()
    count = int.from_bytes(content[16:24], "little") + 1
    header = content[:16] + count.to_bytes(8, "little") + content[24:first] + entry + content[first:end]
    with whole_file(path) as partial:
        partial.write_bytes(header + bytes(-len(header) % reader.alignment) + content[reader.data_offset :])
