#!/usr/bin/env python3
"""Bits per byte of general compressors and of n-gram models on a text, to compare with `tern eval`.

    baselines.py held_out.txt                                                   xz -9e and PPMd
    baselines.py held_out.txt --train training.txt --out models/baselines.json  for the picture of plot.py models

All get the very stream the model predicts (separator lines as one byte, see lm/text/encoding.py) and are divided by the same
number of bytes. PPMd gets 256 MB of memory and the best of several orders: a fair opponent. With a training text there
are also n-gram models that were counted on it (lm/measure/ngram.py; their download is the compressed table of counts), and PPMd
that has read it before (its download is the compressed training text).
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import subprocess
import tempfile
from pathlib import Path

from lm.measure import ngram
from lm.text import command, files
from lm.text.data import read_text

PPMD_ORDERS = (4, 6, 8, 10, 12, 16, 24)
GRAMS = (3, 4, 5, 6, 7)


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


def measure(stream: bytes) -> dict:
    """-> bytes, xz and ppmd in bits per byte, and the order ppmd did best with."""
    sizes = {order: ppmd_bytes(stream, order) for order in PPMD_ORDERS}
    best = min(sizes, key=sizes.get)
    return {
        "bytes": len(stream),
        "xz": 8 * xz_bytes(stream) / len(stream),
        "ppmd": 8 * sizes[best] / len(stream),
        "ppmd_order": best,
    }


def measure_trained(stream, training, order: int) -> list[dict]:
    """uint8 streams -> what was fitted to the training text: name, download in bytes, bits_per_byte on the other text."""
    points = []
    for n in GRAMS:
        levels = ngram.train(training, n)
        bits = ngram.bits_per_byte(levels, stream)
        points.append({"name": f"{n}-gram", "download": ngram.packed_bytes(levels), "bits_per_byte": round(bits, 4)})
    first, both = (ppmd_bytes(part, order) for part in (training.tobytes(), training.tobytes() + stream.tobytes()))
    bits = 8 * (both - first) / stream.size
    points.append({"name": "ppmd after the training text", "download": first, "bits_per_byte": round(bits, 4)})
    return points


def as_points(text: Path, training: Path | None, report: dict, trained: list[dict]) -> dict:
    """The content of models/baselines.json; a compressor downloads nothing and begins knowing nothing."""
    points = [
        {"name": "xz -9e", "download": 0, "bits_per_byte": round(report["xz"], 4)},
        {"name": f"ppmd, order {report['ppmd_order']}", "download": 0, "bits_per_byte": round(report["ppmd"], 4)},
    ]
    names = {"text": text.name, "bytes": report["bytes"], "training_text": training.name if training else None}
    return {**names, "points": points + trained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--train", type=Path, help="a training text, for n-gram models and for PPMd to read first")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write all points there, as plot.py models reads them")
    arguments = parser.parse_args()
    stream = read_text(arguments.text)
    report = measure(stream.tobytes())
    trained = measure_trained(stream, read_text(arguments.train), report["ppmd_order"]) if arguments.train else []
    if arguments.out:
        content = as_points(arguments.text, arguments.train, report, trained)
        files.write_text(arguments.out, json.dumps(content, indent=2) + "\n")
    if arguments.json:
        print(json.dumps({**report, "trained": trained}))
    else:
        print(f"{report['bytes']:,} bytes")
        print(f"xz -9e          {report['xz']:.4f} bits per byte")
        print(f"ppmd, order {report['ppmd_order']:2}  {report['ppmd']:.4f} bits per byte")
        for point in trained:
            print(
                f"{point['name']}: {point['bits_per_byte']:.4f} bits per byte, {point['download']:,} bytes to download"
            )


if __name__ == "__main__":
    command.run(main)
