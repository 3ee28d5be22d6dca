#!/usr/bin/env python3
"""Train a model: scripts/train.py scripts/configs/tinystories-3m5.toml --out FOLDER [--resume]."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from lm.loop import Run, train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="a TOML file, see scripts/configs")
    parser.add_argument("--out", type=Path, required=True, help="folder for last.pt and log.csv")
    parser.add_argument("--resume", action="store_true", help="go on from last.pt in --out")
    parser.add_argument("--grow-from", type=Path, help="a checkpoint with fewer layers to start from")
    arguments = parser.parse_args()
    try:
        train(Run.read(arguments.config), arguments.out, arguments.resume, arguments.grow_from)
    except (ValueError, OSError) as problem:
        sys.exit(f"train: {problem}")
