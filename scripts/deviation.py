#!/usr/bin/env python3
"""Reports where the engine's integers differ from float, operation by operation, the costliest first.

    deviation.py --model models/tinystories-3m5.gguf --text tests/data/stories.txt [--bytes 512] [--out report.json]

What the columns mean: lm/measure/deviation.py. Needs the native build (tern_trace).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lm.measure.deviation import analyse, tables
from lm.text import command, files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a .gguf file")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--bytes", type=int, default=512, help="only the first N bytes (512)")
    parser.add_argument(
        "--engine-weights", action="store_true", help="PyTorch with norms and taps rounded to Q16.16 as in the engine"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--out", type=Path, help="write the JSON there as well")
    arguments = parser.parse_args()
    report = analyse(arguments.model, arguments.text, arguments.bytes, arguments.engine_weights)
    if arguments.out:
        files.write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2) if arguments.json else tables(report))


if __name__ == "__main__":
    command.run(main)
