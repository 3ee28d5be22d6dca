#!/usr/bin/env python3
"""Draws bits per byte against download size: the models of models/manifest.json among the points of baselines.json.

    plot_models.py      writes models/bits-per-byte.svg; scripts/publish.py does it after every change of the manifest

Both files hold what was measured (by scripts/publish.py and scripts/baselines.py), so nothing is computed here. The
colours are readable on light and on dark pages; the same numbers give the same bytes.
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
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
PICTURE = "bits-per-byte.svg"
INK, OURS, GRAMS, PACKERS = "#777777", "#2f81f7", "#b08800", "#8a63d2"  # each 4:1 or nearly, on white and on black
BUDGETS = (1e6, 5e6)  # bytes of download that we aim at


def read_points(folder: Path) -> tuple[dict, list[dict], list[dict]]:
    """-> baselines.json, our models (with `download`) and the other points; models scored on another text are left out."""
    baselines = json.loads((folder / "baselines.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    ours = [
        {"name": entry["name"], "download": entry["bytes"], "bits_per_byte": entry["bits_per_byte"]}
        for entry in manifest["models"]
        if entry["evaluated_on"] == baselines["text"]
    ]
    if not ours:
        raise ValueError(
            f"{folder}/manifest.json: no model was scored on {baselines['text']}, the text of baselines.json"
        )
    return baselines, ours, baselines["points"]


def chart_style(salt: str) -> dict:
    """Settings under which the same numbers give the same bytes; `salt` distinguishes pictures of one page."""
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": "sans-serif",
        "font.size": 10,
        **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
    }


def svg_of(figure) -> str:
    """The figure as SVG without a date, closed."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def draw(baselines: dict, ours: list[dict], others: list[dict]) -> str:
    """The picture, SVG with its text as text."""
    with pyplot.rc_context(chart_style("bits per byte")):
        figure, axes = pyplot.subplots(figsize=(7.6, 4.4), constrained_layout=True)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=INK, alpha=0.2, linewidth=0.6)

        grams = [point for point in others if point["name"].endswith("-gram")]
        packers = [point for point in others if point not in grams]
        left = min(point["download"] for point in [*ours, *grams, *packers] if point["download"]) / 2
        axes.set(xscale="log", xlim=(left, 3 * max(point["download"] for point in [*ours, *others])))
        axes.plot(*_coordinates(grams), "s-", color=GRAMS, markersize=5, linewidth=1)
        axes.plot(*_coordinates(sorted(ours, key=lambda p: p["download"])), "o-", color=OURS, markersize=9, linewidth=1)
        smallest = min(ours, key=lambda point: point["download"])
        for point in ours:  # beside the dots, away from each other
            place, side = ((-9, -4), "right") if point is smallest else ((9, -4), "left")
            _label(axes, point, OURS, place, ha=side, weight="bold")
        for point in grams:
            _label(axes, point, GRAMS, (6, 6))
        right = axes.get_xlim()[1]
        for point in packers:
            level = point["bits_per_byte"]
            if point["download"]:
                axes.plot(*_coordinates([point]), "D", color=PACKERS, markersize=6)
            else:  # at the left edge, and the level that a download has to beat
                axes.axhline(level, color=PACKERS, linewidth=1, linestyle=":")
                axes.plot([left], [level], "D", color=PACKERS, markersize=6, clip_on=False)
            name = point["name"] + ("" if point["download"] else ", nothing to download")
            _label(axes, {**point, "name": name, "download": right}, PACKERS, (0, 6), ha="right")
        for budget in BUDGETS:
            axes.axvline(budget, color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        ticks = [size for size in (1e3, 1e4, 1e5, 1e6, 5e6, 1e7) if left <= size <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} KB" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="download", ylabel=f"bits per byte, {baselines['text'].removesuffix('.txt')}")
        axes.set_ylim(min(point["bits_per_byte"] for point in [*ours, *others]) - 0.2, None)
        return svg_of(figure)


def _coordinates(points: list[dict]) -> tuple[list[float], list[float]]:
    return [point["download"] for point in points], [point["bits_per_byte"] for point in points]


def _label(axes, point: dict, color: str, offset: tuple[int, int], **style) -> None:
    at = (point["download"], point["bits_per_byte"])
    text = f"{point['name']}: {point['bits_per_byte']:.2f}"
    axes.annotate(text, at, xytext=offset, textcoords="offset points", color=color, fontsize=9, **style)


def write_picture(folder: Path) -> Path:
    path = folder / PICTURE
    path.write_text(draw(*read_points(folder)), encoding="utf-8")
    return path


def main() -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try:
        path = write_picture(MODELS)
    except (OSError, ValueError, KeyError) as error:
        print(f"plot_models: {error}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
