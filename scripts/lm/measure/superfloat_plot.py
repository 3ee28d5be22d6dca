"""The picture of SuperFloat: bits per byte by width and method, and by file size, ternary models beside."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import ticker

from lm.measure.plots import GRAMS, INK, OURS, PACKERS, svg
from lm.text.files import read_text

PICTURE = "superfloat.svg"
METHODS = (  # of a row of the table: key, what it is, colour and line
    ("vanilla", "vanilla, no scales", PACKERS, "o-"),
    ("scaled", "row scales", GRAMS, "s-"),
    ("opt", "OPT", INK, "^--"),
    ("fpm", "FPM", OURS, "D-"),
)
ABOVE = 0.6  # bits per byte over the float model: what is beyond leaves the picture


def draw(result: dict, ternary: list[dict]) -> str:
    """What superfloat_table.make gives, and entries of the manifest -> SVG."""
    own = result["float"]["bits"]
    rows = [row for row in result["widths"] if row["bits"] <= 10]

    def by_width(axes) -> None:
        for key, label, color, style in METHODS:
            points = [(row["bits"], row[key]) for row in rows if key in row and row[key] < own + ABOVE]
            axes.plot(*zip(*points), style, color=color, label=label, markersize=5, linewidth=1)
        axes.axhline(own, color=INK, linewidth=1, linestyle=":")
        axes.annotate("float", (10, own), xytext=(0, -11), textcoords="offset points", ha="right", fontsize=8)
        axes.set(xlabel="x of SFx", ylabel="bits per byte")
        axes.xaxis.set_major_locator(ticker.MultipleLocator(1))
        axes.legend(fontsize=8, frameon=False)

    def by_size(axes) -> None:
        for key, label, color, style in METHODS[:2]:
            points = [(row[f"{key}_bytes"] / 1e6, row[key]) for row in rows if row[key] < own + ABOVE]
            axes.plot(*zip(*points), style, color=color, label=f"one width, {label}", markersize=5, linewidth=1)
        trained = [(row["scaled_bytes"] / 1e6, row["fpm"]) for row in rows if "fpm" in row]
        if trained:
            axes.plot(*zip(*trained), "D-", color=OURS, label="one width, FPM", markersize=5, linewidth=1)
        searched = sorted((pair["searched_bytes"] / 1e6, own + pair["searched_loss"]) for pair in result["searched"])
        searched = [(size, bits) for size, bits in searched if bits < own + ABOVE]
        if searched:
            axes.plot(*zip(*searched), "*-", color="#d1487a", label="searched widths", markersize=7, linewidth=1)
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
