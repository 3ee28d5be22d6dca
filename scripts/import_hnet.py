#!/usr/bin/env python3
"""Writes a checkpoint of the public HNet-bit code as a model file that the engine, the page and `tern` run.

import_hnet.py --checkpoint model.safetensors --out hnet.gguf --name "HNet-bit" --text held_out.txt

What can be read, what changes and what is refused: scripts/lm/file/public_hnet.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lm.file import gguf_file
from lm.file.public_hnet import model_of, read_weights, shift_of
from lm.text import command
from lm.text.encoding import encode

CHECKED_BYTES = 4096


def check_shift(model, text: Path) -> str:
    """One line of scores; ValueError when the model was trained to predict the byte after the next."""
    tokens = encode(text.read_bytes())[:CHECKED_BYTES]
    if tokens.size < 64:
        raise ValueError(f"{text}: expected at least 64 bytes to check the model on, found {tokens.size}")
    following, second = shift_of(model, tokens)
    if second < following:
        raise ValueError(
            f"the model predicts the byte after the next ({second:.3f} bits per byte) better than the next one "
            f"({following:.3f}): its labels were shifted twice in training; train it again with one shift"
        )
    return f"{following:.3f} bits per byte on the first {tokens.size} bytes of {text}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="state_dict, .safetensors or a folder with one")
    parser.add_argument("--out", type=Path, required=True, help="the .gguf file to write")
    parser.add_argument("--text", type=Path, help="held-out text: refuse a model that predicts the wrong byte of it")
    parser.add_argument("--eps", type=float, default=1e-6, help="rms_norm_eps of its config.json")
    parser.add_argument("--type", choices=sorted(gguf_file.TERNARY_TYPES), default="TQ1_0")
    parser.add_argument("--name", help="name to show; default: the file's name")
    parser.add_argument("--license", default="", help="SPDX name of the licence of the weights")
    parser.add_argument("--training-text", default="", help="what it was trained on, and that text's licence")
    arguments = parser.parse_args()
    model = model_of(read_weights(arguments.checkpoint), arguments.eps)
    if arguments.text:
        print(check_shift(model, arguments.text))
    card = gguf_file.Card(
        name=arguments.name or arguments.out.stem,
        license=arguments.license,
        training_text=arguments.training_text,
    )
    gguf_file.write(arguments.out, model, card, arguments.type)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    command.run(main)
