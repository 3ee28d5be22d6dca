"""The picture of SuperFloat: bits per byte by width and method, and by file size, ternary models beside."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import ticker

from lm.measure.plots import GRAMS, INK, OURS, PACKERS, svg
from lm.text.files import read_text

PICTURE = "superfloat.svg"
METHODS = (  # of a row of the table: key, what it is, colour and line
    ("vanilla", "no scales", PACKERS, "o-"),
    ("scaled", "row scales", GRAMS, "s-"),
    ("scaled_opt", "row scales, OPT", INK, "^--"),
    ("scaled_fpm", "row scales, FPM", "#d1487a", "D-"),
    ("fit", "row scales, fitted", OURS, "*-"),
)
SEARCHED = (  # of a pair of equal size: key, what it is, colour and line
    ("searched_loss", "searched widths", GRAMS, "v:"),
    ("fit_loss", "searched and fitted", OURS, "P:"),
)
ABOVE = 0.6  # bits per byte over the float model: what is beyond leaves the picture


def draw(result: dict, ternary: list[dict]) -> str:
    """What superfloat_table.make gives, and entries of the manifest -> SVG."""
    own = result["float"]["bits"]
    rows = [row for row in result["widths"] if row["bits"] <= 10]
    pairs = [pair for row in rows for pair in row["searched"]]

    def line(axes, points: list[tuple[float, float]], style: str, color: str, label: str) -> None:
        points = sorted((x, bits) for x, bits in points if bits < own + ABOVE)
        if points:
            axes.plot(*zip(*points), style, color=color, label=label, markersize=5, linewidth=1)

    def by_width(axes) -> None:
        for key, label, color, style in METHODS:
            line(axes, [(row["bits"], row[key]) for row in rows if key in row], style, color, label)
        axes.axhline(own, color=INK, linewidth=1, linestyle=":")
        axes.annotate("float", (10, own), xytext=(0, -11), textcoords="offset points", ha="right", fontsize=8)
        axes.set(xlabel="x of SFx", ylabel="bits per byte")
        axes.xaxis.set_major_locator(ticker.MultipleLocator(1))
        axes.legend(fontsize=8, frameon=False)

    def by_size(axes) -> None:
        for key, label, color, style in (METHODS[0], METHODS[1], METHODS[4]):
            size = f"{key}_bytes"
            line(axes, [(row[size] / 1e6, row[key]) for row in rows if key in row], style, color, f"one width, {label}")
        for key, label, color, style in SEARCHED:
            line(axes, [(pair["searched_bytes"] / 1e6, own + pair[key]) for pair in pairs], style, color, label)
        for model in ternary:
            at = (model["bytes"] / 1e6, model["bits_per_byte"])
            axes.plot(*at, "o", color=OURS, markersize=8)
            axes.annotate(
                f"{model['name']}, ternary", at, xytext=(0, 9), textcoords="offset points", ha="center", fontsize=8
            )
        axes.set(xlabel="file, MB", ylabel="bits per byte")
        axes.margins(x=0.12, y=0.12)
        axes.legend(fontsize=8, frameon=False)

    def panels(_, axes) -> None:
        by_width(axes[0])
        by_size(axes[1])

    return svg("superfloat", panels, 2, (9.6, 4.2))


def drawn(folder: Path) -> str:
    """The picture of what is in superfloat.json and manifest.json there."""
    result, manifest = (json.loads(read_text(folder / name)) for name in ("superfloat.json", "manifest.json"))
    largest = 2 * max(row["scaled_bytes"] for row in result["widths"] if row["bits"] <= 8)
    flat = (m for m in manifest["models"] if m["architecture"] == "hgrnbit" and "tokens" not in m["file"])
    return draw(result, [m for m in flat if "-sf" not in m["file"] and m["bytes"] < largest])
