#!/usr/bin/env python3
"""Scores a checkpoint on a text with PyTorch: bits per byte and the rest of what `tern eval` reports.

evaluate.py --checkpoint runs/stories/last.pt --text held_out.txt [--bytes N] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from lm.checkpoint import load_model
from lm.score import score
from lm.text import encode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--bytes", type=int, help="only the first N bytes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        model, _ = load_model(arguments.checkpoint)
        tokens = encode(arguments.text.read_bytes())[: arguments.bytes]
        report = score(model, tokens, progress=lambda parts: tqdm(parts, disable=arguments.json))
    except (OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(report))
    else:
        print(
            f"{report['bits_per_byte']:.4f} bits per byte, perplexity {report['perplexity']:.3f}, "
            f"top-1 {report['top1']:.1%}, top-5 {report['top5']:.1%} over {report['bytes']:,} bytes"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
