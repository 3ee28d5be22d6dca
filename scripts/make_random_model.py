#!/usr/bin/env python3
"""Writes a model file with random weights, in any shape, to measure speed and memory with.

make_random_model.py build/bench/1.3B.gguf --preset 1.3B
make_random_model.py wide.gguf --hidden 4096 --layers 2 --type TQ1_0
make_random_model.py peer.gguf --preset 1.3B --architecture llama --type Q4_0    for llama.cpp and wllama
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from lm.arch.hgrnbit import Config
from lm.file import random_model
from lm.text import command


def config_of(arguments: argparse.Namespace) -> Config:
    """The preset's sizes, or those of --hidden: recurrent as wide, intermediate 8/3 as wide in multiples of 256."""
    if arguments.preset:
        base = random_model.PRESETS[arguments.preset]
    elif arguments.hidden and arguments.layers:
        wide = -(-arguments.hidden * 8 // 3 // 256) * 256
        base = Config(hidden=arguments.hidden, recurrent=arguments.hidden, intermediate=wide, layers=arguments.layers)
    else:
        raise ValueError("expected --preset, or --hidden and --layers")
    names = ("hidden", "recurrent", "intermediate", "layers", "conv_kernel")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return replace(base, **given)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("out", type=Path, help="the .gguf file to write")
    parser.add_argument("--preset", choices=random_model.PRESETS, help="sizes to begin with")
    for option, what in (
        ("--hidden", "width of the residual stream"),
        ("--recurrent", "width of the recurrent state"),
        ("--intermediate", "width of the MLP"),
        ("--layers", "blocks"),
        ("--conv-kernel", "taps of the convolution, 0 for none"),
    ):
        parser.add_argument(option, type=int, metavar="N", help=what)
    parser.add_argument("--type", choices=random_model.LLAMA_TYPES, default="TQ2_0", help="Q4_0 and Q8_0: llama only")
    parser.add_argument("--architecture", choices=("hgrnbit", "llama"), default="hgrnbit")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    start = time.monotonic()
    config = config_of(arguments)
    random_model.write(arguments.out, config, arguments.type, arguments.architecture, arguments.seed)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    command.run(main)
