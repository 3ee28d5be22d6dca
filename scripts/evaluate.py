#!/usr/bin/env python3
"""Scores checkpoints and model files on a text with PyTorch: bits per byte and all else that `tern eval` reports.

    evaluate.py --checkpoint runs/stories/last.pt --text held_out.txt
    evaluate.py --checkpoint runs/*/last.pt models/*.gguf --text held_out.txt --engine --out comparison.json

One file gives a sheet, several give a Markdown table with the best first. `--engine` measures every .gguf file with
`tern eval` as well, so that integers and float stand side by side. What each number means: lm/measure/score.py, lm/measure/samples.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from lm.measure import samples
from lm.measure.evaluation import comparison, evaluate, evaluate_in_engine, sheet
from lm.text import command, files
from lm.text.data import read_text
from lm.text.encoding import encode


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True, help=".pt or .gguf files")
    parser.add_argument("--text", type=Path, required=True, help=".txt, .txt.xz, or .bin of prepare_data.py")
    parser.add_argument("--bytes", type=int, help="only the first N bytes")
    parser.add_argument("--samples", type=int, default=8, help="texts to generate, whose variety is measured (8)")
    parser.add_argument("--sample-file", type=Path, help="measure the documents of this file instead")
    parser.add_argument("--engine", action="store_true", help="measure .gguf files with tern eval as well")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="write the JSON there as well")
    arguments = parser.parse_args(words)
    if (arguments.bytes is not None and arguments.bytes < 1) or arguments.samples < 0:
        parser.error("--bytes must be at least 1 and --samples at least 0")
    return arguments


def run(arguments: argparse.Namespace) -> list[dict]:
    """One report per model file, and one more per .gguf file with --engine."""
    tokens = read_text(arguments.text)[: arguments.bytes]
    given = samples.split_documents(encode(arguments.sample_file.read_bytes())) if arguments.sample_file else None
    reports = []
    for path in arguments.checkpoint:
        with_bar = lambda parts, name=path.name: tqdm(parts, name, disable=arguments.json)  # noqa: E731
        reports.append(evaluate(path, tokens, arguments.samples, given, with_bar))
        if arguments.engine and path.suffix == ".gguf":
            reports.append(evaluate_in_engine(path, tokens, arguments.samples, arguments.sample_file))
    return reports


def main() -> None:
    arguments = arguments_of()
    reports = run(arguments)
    content = json.dumps(reports[0] if len(reports) == 1 else {"models": reports}, indent=2)
    if arguments.out:
        files.write_text(arguments.out, content + "\n")
    print(content if arguments.json else sheet(reports[0]) if len(reports) == 1 else comparison(reports))


if __name__ == "__main__":
    command.run(main)
