#!/usr/bin/env python3
"""Draws the curves of training runs and compares the runs, in one HTML file that needs nothing beside it.

    analyze.py runs/small runs/base --out report.html

Reads log.csv of each run's folder, and ternary.csv and the settings in run.json where they are there. The comparison
table, best held-out score first, is printed as Markdown as well.
"""

from __future__ import annotations

import argparse
import base64
import html
import sys
from pathlib import Path

import numpy as np

from lm.curves import NEEDED, RunLog, differing_settings, draw_columns, draw_loss, draw_ternary, read_run
from lm.tables import markdown

DRAWN_APART = {*NEEDED, "valid_bits", "seconds"}  # in the first figure, or axes of it
COMMON = ["lr_factor", "gradient_norm"]
PANELS = 3  # of a row of other columns


def comparison(runs: list[RunLog]) -> list[list[str]]:
    """A heading and a row per run, best held-out score first (runs without one last)."""
    rows = []
    for run in runs:
        at, scores = run.valid()
        bits, seen, hours = run.columns["train_bits"], run.columns["bytes_seen"], run.hours
        best = int(scores.argmin()) if len(scores) else None
        recent = bits[-max(1, len(bits) // 50) :]
        rows.append(
            [
                run.name,
                f"{run.columns['step'][-1]:,.0f}",
                f"{seen[-1] / 1e6:.1f} MB",
                f"{hours[-1]:.2f}" if hours[-1] > 0 else "",
                f"{(seen[-1] - seen[0]) / hours[-1] / 3600:,.0f}" if hours[-1] > 0 else "",
                f"{np.nanmean(recent):.4f}",
                f"{scores[-1]:.4f}" if len(scores) else "",
                f"{scores[best]:.4f} at {seen[at[best]] / 1e6:.1f} MB" if len(scores) else "",
                f"{run.ternary['zero'][-1]:.3f}" if run.ternary else "",
            ]
        )
    rows.sort(key=lambda row: float(row[7].split()[0]) if row[7] else float("inf"))
    heading = ["run", "steps", "text seen", "hours", "bytes/s", "train bits (last 2 %)", "held out", "best", "zeros"]
    return [heading, *rows]


def other_columns(runs: list[RunLog]) -> list[str]:
    """What the logs have besides the usual, in the order of the files."""
    names = dict.fromkeys(name for run in runs for name in run.columns)
    known = DRAWN_APART | set(COMMON)
    numeric = [n for n in names if any(n in r.columns and not np.isnan(r.columns[n]).all() for r in runs)]
    return [name for name in numeric if name not in known]


def figures(runs: list[RunLog]) -> list[tuple[str, bytes]]:
    """(title, PNG)"""
    made = [("Bits per byte", draw_loss(runs))]
    common = [name for name in COMMON if any(name in run.columns for run in runs)]
    if common:
        made.append(("Learning rate and gradient", draw_columns(runs, common)))
    if any(run.ternary for run in runs):
        made.append(("Ternary weights", draw_ternary(runs)))
    others = other_columns(runs)
    for first in range(0, len(others), PANELS):
        title = "Other columns of log.csv" if first == 0 else ""
        made.append((title, draw_columns(runs, others[first : first + PANELS])))
    return made


def _html_table(table: list[list[str]]) -> str:
    rows = ["".join(f"<{'td' if n else 'th'}>{html.escape(cell)}" for cell in row) for n, row in enumerate(table)]
    return "<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>"


def report(runs: list[RunLog]) -> str:
    """The whole page."""
    settings = differing_settings(runs)
    parts = [_html_table(comparison(runs))]
    if settings:
        table = [["setting", *(run.name for run in runs)], *([name, *values] for name, values in settings.items())]
        parts += ["<h2>Settings that differ</h2>", _html_table(table)]
    for title, png in figures(runs):
        source = "data:image/png;base64," + base64.b64encode(png).decode()
        parts.append(f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="{source}">')
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:1300px;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left}img{max-width:100%}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Training runs</title><style>{style}</style>'
    return f"{head}<h1>Training runs</h1>{''.join(parts)}</html>\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders that scripts/train.py --out wrote to")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the report to write (report.html)")
    arguments = parser.parse_args()
    try:
        runs = [read_run(path) for path in arguments.runs]
        arguments.out.write_text(report(runs), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"analyze: {error}", file=sys.stderr)
        return 1
    print(markdown(comparison(runs)))
    print(f"\n{arguments.out}: curves and comparison")
    return 0


if __name__ == "__main__":
    sys.exit(main())
