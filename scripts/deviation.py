#!/usr/bin/env python3
"""Reports where the engine's integers differ from float, operation by operation, the costliest first.

    deviation.py --model models/tinystories-3m5.gguf --text tests/data/stories.txt [--bytes 512] [--out report.json]

What the columns mean: lm/measure/deviation.py. Needs the native build (tern_trace).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lm.measure.deviation import analyse, tables


def main() -> int:
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
    try:
        report = analyse(arguments.model, arguments.text, arguments.bytes, arguments.engine_weights)
        if arguments.out:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    except (OSError, ValueError) as error:
        print(f"deviation: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if arguments.json else tables(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
