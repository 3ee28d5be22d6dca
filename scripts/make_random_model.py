#!/usr/bin/env python3
"""Writes a model file with random weights, in any shape, to measure speed and memory with.

make_random_model.py build/bench/1.3B.gguf --preset 1.3B
make_random_model.py wide.gguf --hidden 4096 --layers 2 --type TQ1_0
make_random_model.py build/bench/mamba.gguf --preset BitMamba-2-255M     BitMamba-2, 50257 made-up pieces as tokens
make_random_model.py build/bench/bitnet.gguf --preset BitNet-2B-4T --layers 2    2B-4T with fewer blocks
make_random_model.py checkpoint/ --published MMfreeLM-2.7B               what convert.py reads: a folder as it comes from the hub
make_random_model.py peer.gguf --preset 1.3B --architecture llama --type Q4_0    for llama.cpp and wllama
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

from lm.arch import bitmamba2, bitnet, hgrnbit
from lm.file import random_checkpoint, random_model
from lm.text import command

SIZES = {
    "hidden": "width of the residual stream",
    "layers": "blocks",
    "conv-kernel": "taps of the convolution, 0 for none",
    "vocab-size": "tokens: 256 bytes, or made-up pieces",
    "recurrent": "hgrnbit: width of the recurrent state",
    "intermediate": "hgrnbit, bitnet: width of the MLP",
    "inner": "bitmamba2: width of the state",
    "heads": "bitmamba2: heads; bitnet: of queries",
    "kv-heads": "bitnet: heads of keys and values",
    "head-width": "bitnet: width of a head",
    "context": "bitnet: most tokens of a text",
}


def config_of(arguments: argparse.Namespace) -> object:
    """The preset's sizes, or those that go with --hidden as in the presets."""
    hidden, layers = arguments.hidden, arguments.layers
    if arguments.preset:
        base = random_model.PRESETS[arguments.preset]
    elif not hidden or not layers:
        raise ValueError("expected --preset, or --hidden and --layers")
    elif arguments.architecture == "bitmamba2":
        inner = arguments.inner or 2 * hidden
        base = bitmamba2.Config(hidden=hidden, inner=inner, heads=arguments.heads or inner // 128 or 1, layers=layers)
    elif arguments.architecture == "bitnet":
        width = arguments.head_width or min(128, -(-hidden // 4) * 4)
        heads = arguments.heads or -(-hidden // width)
        base = bitnet.Config(
            hidden=hidden,
            intermediate=-(-hidden * 8 // 3),
            layers=layers,
            heads=heads,
            kv_heads=heads,
            head_width=width,
        )
    else:
        base = hgrnbit.Config(
            hidden=hidden, recurrent=hidden, intermediate=-(-hidden * 8 // 3 // 256) * 256, layers=layers
        )
    if arguments.architecture not in (None, "llama", base.architecture):
        raise ValueError(f"--preset {arguments.preset} is of {base.architecture}, not of {arguments.architecture}")
    given = {word.replace("-", "_"): word for word in SIZES}
    given = {name: word for name, word in given.items() if getattr(arguments, name) is not None}
    for name, word in given.items():
        if name not in vars(base):
            raise ValueError(f"--{word}: {base.architecture} has no such size")
    if "head_width" in given:
        base = replace(base, head_width=arguments.head_width, frequencies=())
    return replace(base, **{name: getattr(arguments, name) for name in given})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("out", type=Path, help="the .gguf file to write; the folder with --published")
    parser.add_argument("--preset", choices=random_model.PRESETS, help="sizes to begin with")
    parser.add_argument(
        "--published", choices=random_checkpoint.PRESETS, help="a checkpoint in the published format for convert.py"
    )
    for option, what in SIZES.items():
        parser.add_argument(f"--{option}", type=int, metavar="N", help=what)
    parser.add_argument("--type", choices=random_model.LLAMA_TYPES, default="TQ2_0", help="Q4_0 and Q8_0: llama only")
    parser.add_argument(
        "--architecture", choices=("hgrnbit", "bitmamba2", "bitnet", "llama"), help="default: the preset's, or hgrnbit"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    start = time.monotonic()
    if arguments.published:
        print(random_checkpoint.write(arguments.out, arguments.published, arguments.seed))
        return
    config = config_of(arguments)
    random_model.write(
        arguments.out, config, arguments.type, "llama" * (arguments.architecture == "llama"), arguments.seed
    )
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes in {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    command.run(main)
