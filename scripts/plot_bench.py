#!/usr/bin/env python3
"""Draws how speed scales, from a result of `npm run bench`: with the size of the model, the prompt, and the threads.

    plot_bench.py [bench.json]      writes scaling.svg beside it; default: build/bench/bench.json

Everything was measured by the bench, so nothing is computed here. Panels without measurements are left out.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

RESULT = Path(__file__).resolve().parent.parent / "build" / "bench" / "bench.json"
PICTURE = "scaling.svg"
INK = "#777777"
ENGINES = {  # each 4:1 or nearly, on white and on black
    "chromium": ("#2f81f7", "o-", "TernLM, Chromium"),
    "firefox": ("#b08800", "s-", "TernLM, Firefox"),
    "native": ("#2da44e", "^-", "TernLM, native"),
    "llama.cpp": ("#8a63d2", "D--", "llama.cpp TQ2_0, native"),
    "wllama": ("#cf4a6a", "v--", "wllama TQ2_0, Chromium"),
}
UNITS = {"M": 1e6, "B": 1e9}


def parameters(model: str) -> float | None:
    """ "random 1.3B" -> 1.3e9; None for a name without a size."""
    found = re.fullmatch(r"random ([\d.]+)([MB])", model)
    return float(found[1]) * UNITS[found[2]] if found else None


def short(number: float) -> str:
    """1.3e9 -> "1.3B"."""
    for unit, size in reversed(UNITS.items()):
        if number >= size:
            return f"{number / size:g}{unit}"
    return f"{number:g}"


def measured(row: dict) -> str:
    """What a row is about. With threads the bench measures writing in a browser through the package alone."""
    of = row["of"]
    through_package = of["bench"] == "page" and row.get("what", "").startswith("package writes")
    return "decode" if through_package and of["threads"] > 1 else of["bench"]


def points(rows: list[dict], bench: str, x) -> dict[str, list[tuple[float, float]]]:
    """-> per engine (x of a row, value), in the order of x; rows for which x gives None are left out."""
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        of = row["of"]
        if measured(row) != bench or row["engine"] not in ENGINES or of.get("type", "TQ2_0") != "TQ2_0":
            continue
        if (at := x(of)) is not None:
            found.setdefault(row["engine"], {})[at] = row["value"]
    return {engine: sorted(found[engine].items()) for engine in ENGINES if engine in found}


def panels(rows: list[dict]) -> list[dict]:
    """What there is to draw; a panel needs two points of some engine."""

    def size(of: dict) -> float | None:
        return parameters(of["model"]) if of["threads"] == 1 else None

    def prompt(of: dict) -> float | None:
        return of["prompt_bytes"] if of["model"] == "random 20M" and of["threads"] == 1 else None

    def threads(of: dict) -> float | None:
        return of["threads"] if of["model"] == "random 1.3B" else None

    wanted = [
        {"title": "writing", "x": "parameters", "lines": points(rows, "decode", size)},
        {"title": "reading a prompt", "x": "parameters", "lines": points(rows, "prefill", size)},
        {"title": "reading, 20M", "x": "bytes of prompt", "lines": points(rows, "prompt", prompt)},
        {"title": "writing, 1.3B", "x": "threads", "lines": points(rows, "decode", threads)},
    ]
    return [panel for panel in wanted if any(len(line) > 1 for line in panel["lines"].values())]


def draw(result: dict) -> str:
    """The picture, SVG with its text as text."""
    drawn = panels(result["rows"])
    if not drawn:
        raise ValueError("expected the speed of models of two sizes, or of two lengths of a prompt; found neither")
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "bench",
        "font.family": "sans-serif",
        "font.size": 9,
        **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            1, len(drawn), figsize=(3.1 * len(drawn), 3.4), constrained_layout=True, squeeze=False
        )
        figure.patch.set_alpha(0)
        for ax, panel in zip(axes[0], drawn):
            ax.patch.set_alpha(0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(color=INK, alpha=0.2, linewidth=0.6)
            for engine, line in panel["lines"].items():
                color, marker, label = ENGINES[engine]
                ax.plot(*zip(*line), marker, color=color, markersize=5, linewidth=1.2, label=label)
            ax.set(title=panel["title"], xlabel=panel["x"])
            xs = sorted({at for line in panel["lines"].values() for at, _ in line})
            if panel["x"] == "parameters":
                ax.set(xscale="log", yscale="log")
                ax.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
            else:
                ax.set(xscale="linear" if panel["x"] == "threads" else "log", ylim=(0, None))
            ax.xaxis.set_major_locator(ticker.FixedLocator(xs))
            ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda at, _: short(at)))
            ax.minorticks_off()
            ax.tick_params(axis="x", labelsize=7)
        axes[0][0].set_ylabel("bytes (llama: tokens) per second")
        handles = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, nargs="?", default=RESULT, help="JSON that npm run bench wrote")
    arguments = parser.parse_args()
    path = arguments.result.with_name(PICTURE)
    try:
        path.write_text(draw(json.loads(arguments.result.read_text())), encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"plot_bench: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
