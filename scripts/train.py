#!/usr/bin/env python3
"""Trains a model: scripts/train.py scripts/configs/tinystories-3m5.toml --out FOLDER [--resume].

Over several processes or machines: torchrun --nproc_per_node N scripts/train.py ..., with a folder that all of them see.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from lm.train.loop import Run, train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a TOML file, see scripts/configs")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="changes a setting, as often as wanted"
    )
    parser.add_argument("--resume", action="store_true", help="go on from last.pt in --out")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--grow-from", type=Path, help="begin with the repeated blocks of a checkpoint with fewer layers"
    )
    start.add_argument(
        "--init-from",
        type=Path,
        help="begin a new schedule with the weights of a checkpoint; a flat one's fit into a hierarchical model, too",
    )
    arguments = parser.parse_args()
    try:
        run = Run.read(arguments.config, arguments.set)
        train(run, arguments.out, arguments.resume, arguments.grow_from, arguments.init_from)
    except (ValueError, OSError, RuntimeError) as problem:
        sys.exit(f"train: {problem}")
    except KeyboardInterrupt:
        sys.exit(f"train: stopped; the same command with --resume goes on from {arguments.out / 'last.pt'}")
