#!/usr/bin/env python3
"""Bits per byte of general compressors on a text, to compare with `tern eval`: xz -9e and PPMd (7z, best order).

    baselines.py text.txt [--json]

The compressors get the very stream the model predicts (separator lines as one byte, see lm/text.py) and are divided by
the same number of bytes. PPMd gets 256 MB of memory and the best of several orders: a fair opponent.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lm.text import encode

PPMD_ORDERS = (4, 6, 8, 10, 12, 16, 24)


def xz_bytes(stream: bytes) -> int:
    """Size after `xz -9e`."""
    return len(lzma.compress(stream, preset=9 | lzma.PRESET_EXTREME))


def ppmd_bytes(stream: bytes, order: int) -> int:
    """Size after 7z's PPMd (variant H), the archive's header included."""
    program = shutil.which("7z") or shutil.which("7zz") or shutil.which("7za")
    if program is None:
        raise FileNotFoundError("PPMd needs 7z: install the package p7zip-full")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "text.7z"
        command = [program, "a", f"-m0=PPMd:o={order}:mem=256m", "-sitext", str(archive)]
        subprocess.run(command, input=stream, stdout=subprocess.DEVNULL, check=True)
        return archive.stat().st_size


def measure(stream: bytes) -> dict[str, float]:
    """-> bytes, xz and ppmd in bits per byte, and the order ppmd did best with."""
    sizes = {order: ppmd_bytes(stream, order) for order in PPMD_ORDERS}
    best = min(sizes, key=sizes.get)
    return {
        "bytes": len(stream),
        "xz": 8 * xz_bytes(stream) / len(stream),
        "ppmd": 8 * sizes[best] / len(stream),
        "ppmd_order": best,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        stream = encode(arguments.text.read_bytes()).tobytes()
        if not stream:
            raise ValueError(f"{arguments.text} is empty")
        report = measure(stream)
    except (OSError, ValueError) as error:
        print(f"baselines: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{report['bytes']:,} bytes")
        print(f"xz -9e          {report['xz']:.4f} bits per byte")
        print(f"ppmd, order {report['ppmd_order']:2}  {report['ppmd']:.4f} bits per byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
