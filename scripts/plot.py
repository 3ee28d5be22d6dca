#!/usr/bin/env python3
"""Draws what was measured (lm/measure/plots.py).

plot.py runs runs/small runs/base --out report.html    curves and comparison of training runs, one page
plot.py models                       models/bits-per-byte.svg from manifest.json and baselines.json there
plot.py sweep [runs/sweep/*]         models/hnet-sweep.svg from hnet-sweep.json there; with runs, their table first
plot.py superfloat                   models/superfloat.svg from superfloat.json there and manifest.json
plot.py bench [bench.json]           scaling.svg beside a result of `npm run bench`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lm.measure import plots, superfloat_plot
from lm.text import command
from lm.text.files import read_text, write_text


def runs(arguments: argparse.Namespace) -> Path:
    found = [plots.read_run(path) for path in arguments.runs]
    write_text(arguments.out, plots.report(found))
    print(f"{plots.runs_table(found)}\n")
    return arguments.out


def models(arguments: argparse.Namespace) -> Path:
    return plots.write_models(arguments.folder)


def sweep(arguments: argparse.Namespace) -> Path:
    table, picture = (arguments.folder / f"{plots.SWEEP}.{ending}" for ending in ("json", "svg"))
    if arguments.runs:
        write_text(table, json.dumps({"runs": [plots.sweep_entry(run) for run in arguments.runs]}, indent=2) + "\n")
    write_text(picture, plots.draw_sweep(json.loads(read_text(table))["runs"]))
    return picture


def superfloat(arguments: argparse.Namespace) -> Path:
    picture = arguments.folder / superfloat_plot.PICTURE
    write_text(picture, superfloat_plot.drawn(arguments.folder))
    return picture


def bench(arguments: argparse.Namespace) -> Path:
    picture = arguments.result.with_name(plots.BENCH_PICTURE)
    write_text(picture, plots.draw_bench(json.loads(read_text(arguments.result))))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    for draw, what in (
        (runs, "training runs"),
        (models, "our models"),
        (sweep, "a sweep"),
        (superfloat, "SFx"),
        (bench, "speed"),
    ):
        kind = kinds.add_parser(draw.__name__, help=what)
        kind.set_defaults(draw=draw)
        if draw in (runs, sweep):
            several = "+" if draw is runs else "*"
            kind.add_argument("runs", type=Path, nargs=several, help="folders that train.py --out wrote to")
        if draw in (models, sweep, superfloat):
            kind.add_argument("--folder", type=Path, default=plots.MODELS, help="of table and picture (models)")
        if draw is runs:
            kind.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write (report.html)")
        if draw is bench:
            kind.add_argument("result", type=Path, nargs="?", default=plots.BENCH, help="what npm run bench wrote")
    arguments = parser.parse_args()
    path = arguments.draw(arguments)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    command.run(main)
