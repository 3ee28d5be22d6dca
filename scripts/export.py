#!/usr/bin/env python3
"""Writes a checkpoint of scripts/train.py as a model file that the engine, the page and `tern` run.

export.py --checkpoint runs/stories/last.pt --out models/stories.gguf --name "Stories"
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lm.file import gguf_file
from lm.file.checkpoint import load_model
from lm.text import command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the .gguf file to write")
    parser.add_argument(
        "--type", choices=sorted(gguf_file.TERNARY_TYPES), default="TQ1_0", help="1.69 or 2.06 bits a weight"
    )
    parser.add_argument("--name", help="name to show; default: the file's name")
    parser.add_argument("--description", default="", help="one sentence")
    parser.add_argument("--license", default="MIT", help="SPDX name of the licence of the weights")
    parser.add_argument("--training-text", default="", help="what it was trained on, and that text's licence")
    arguments = parser.parse_args()
    model, checkpoint = load_model(arguments.checkpoint)
    card = gguf_file.Card(
        name=arguments.name or arguments.out.stem,
        description=arguments.description,
        license=arguments.license,
        training_text=arguments.training_text,
        training_bytes=int(checkpoint["bytes_seen"]),
    )
    gguf_file.write(arguments.out, model, card, arguments.type, model.codec.keys)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes, {checkpoint['bytes_seen']:,} bytes of text seen")


if __name__ == "__main__":
    command.run(main)
