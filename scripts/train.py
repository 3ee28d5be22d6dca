#!/usr/bin/env python3
"""Trains a model: scripts/train.py scripts/configs/tinystories-3m5.toml --out FOLDER [--resume].

Over several processes or machines: torchrun --nproc_per_node N scripts/train.py ..., with a folder that all of them see.
"""

import argparse
from pathlib import Path

from lm.text import command
from lm.train.loop import Run, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a TOML file, see scripts/configs")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="changes a setting, as often as wanted"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    start.add_argument(
        "--grow-from", type=Path, help="begin with the repeated blocks of a checkpoint or .gguf with fewer layers"
    )
    start.add_argument(
        "--init-from",
        type=Path,
        help="begin a new schedule with the weights of a checkpoint or .gguf; a flat one's fit into a hierarchical model",
    )
    arguments = parser.parse_args()
    run = Run.read(arguments.config, arguments.set)
    train(run, arguments.out, arguments.resume, arguments.grow_from, arguments.init_from)


if __name__ == "__main__":
    command.run(main)
