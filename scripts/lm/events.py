"""Writes TensorBoard's event files, so that watching a run needs no package on the machine that trains.

Formats: a file is a sequence of records (length u64, masked CRC-32C of it, data, masked CRC-32C of the data; little
endian), as in TensorFlow's record_writer.h; data is a protocol buffer `Event` (event.proto, summary.proto, tensor.proto).
Only the three fields that a run needs are written: scalars, texts, and the version that opens a file.
"""

import struct
import time
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """CRC-32C: 0xE3069283 for b"123456789"."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _whole(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _scalar(tag: str, value: float) -> bytes:
    """A Summary.Value with simple_value."""
    return _part(1, tag.encode()) + b"\x15" + struct.pack("<f", value)


def _text(tag: str, text: str) -> bytes:
    """A Summary.Value with a tensor of one string (DT_STRING = 7), for the plugin `text`."""
    plugin = _part(1, _part(1, b"text"))
    tensor = _whole(1, 7) + _part(2, _part(2, _whole(1, 1))) + _part(8, text.encode())
    return _part(1, tag.encode()) + _part(9, plugin) + _part(8, tensor)


class EventFile:
    """Appends to a new event file in a folder; a run that goes on has several, and later steps replace earlier ones."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        taken = len(list(folder.glob("events.out.tfevents.*")))
        self.file = open(folder / f"events.out.tfevents.{int(time.time()):010d}.ternlm.{taken}", "wb")
        self._write(0, _part(3, b"brain.Event:2"))

    def _write(self, step: int, content: bytes) -> None:
        self.file.write(record(b"\x09" + struct.pack("<d", time.time()) + _whole(2, step) + content))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._write(step, _part(5, b"".join(_part(1, _scalar(tag, value)) for tag, value in values.items())))

    def text(self, step: int, tag: str, text: str) -> None:
        self._write(step, _part(5, _part(1, _text(tag, text))))
        self.file.flush()

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()
