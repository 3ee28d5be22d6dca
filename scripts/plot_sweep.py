#!/usr/bin/env python3
"""Collects short training runs of hierarchical and flat models, and draws bits per byte against the work per byte.

    plot_sweep.py runs/sweep/*      reads run.json and log.csv of each run into models/hnet-sweep.json, then draws
    plot_sweep.py                   draws models/hnet-sweep.svg from that file

Left: models that differ in their target chunk length only; right: the ways to split the depth between the levels. In
both, the flat models of the same sweep are the line to beat. The same numbers give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from pathlib import Path

from matplotlib import pyplot

from lm import arch
from plot_models import GRAMS, INK, MODELS, OURS, PACKERS, chart_style, svg_of

NAME = "hnet-sweep"
SETTINGS = ("total_bytes", "decay_bytes", "warmup_bytes", "batch", "length", "lr", "matrix_lr", "seed", "valid_bytes")


def block_products(hidden: int, recurrent: int, intermediate: int) -> int:
    """Multiply-adds of the matrices of one HGRN-bit block for one position."""
    return 4 * hidden * recurrent + 3 * hidden * intermediate


def products_per_byte(model: dict, chunk: float) -> float:
    """Multiply-adds of all matrices per byte; `model` as in a checkpoint, of one stage, with `chunk` bytes per chunk."""
    if model.get("architecture", "hgrnbit") == "hgrnbit":
        block = block_products(model["hidden"], model["recurrent"], model["intermediate"])
        return model["layers"] * block + 256 * model["hidden"]
    outer, inner = (
        block_products(*sizes) for sizes in zip(*(model[k] for k in ("hidden", "recurrent", "intermediate")))
    )
    hidden, (router,) = model["hidden"][0], model["router"]
    around = 2 * hidden * router + hidden * hidden + 256 * hidden  # router, residual, head
    return (model["encoder"][0] + model["decoder"][0]) * outer + around + model["layers"] * inner / chunk


def read_run(folder: Path) -> dict:
    """The settings and the last held-out score of a run; ValueError if it has none."""
    facts = json.loads((folder / "run.json").read_text())
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    scored = [row for row in rows if row["valid_bits"]]
    if not scored or int(scored[-1]["bytes_seen"]) < facts["settings"]["train"]["total_bytes"]:
        raise ValueError(f"{folder}: the run has not reached its end and has no final held-out score")
    model = arch.config_to_dict(arch.config_from_dict(facts["settings"]["model"]))
    late = [float(row["boundaries_0"]) for row in rows[-len(rows) // 10 :] if row.get("boundaries_0")]
    chunk = len(late) / sum(late) if late else 1.0  # the mean over the last tenth of the run
    return {
        "name": folder.name,
        "parameters": facts["parameters"],
        "bits_per_byte": round(float(scored[-1]["valid_bits"]), 4),
        "bytes_per_chunk": round(chunk, 2) if late else None,
        "products_per_byte": round(products_per_byte(model, chunk)),
        "model": model,
        "train": {key: facts["settings"]["train"][key] for key in SETTINGS},
    }


def split(runs: list[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """-> flat models, the family with most target chunk lengths, and all other hierarchical models with one of that family."""
    flat = sorted((run for run in runs if run["bytes_per_chunk"] is None), key=lambda run: run["products_per_byte"])
    deep = [run for run in runs if run["bytes_per_chunk"] is not None]
    if not flat or not deep:
        raise ValueError(f"a sweep needs flat and hierarchical runs, found {len(flat)} and {len(deep)}")

    def shape(run: dict) -> str:
        return json.dumps({key: value for key, value in run["model"].items() if key != "target"}, sort_keys=True)

    largest, _ = Counter(map(shape, deep)).most_common(1)[0]
    family = sorted((run for run in deep if shape(run) == largest), key=lambda run: run["model"]["target"][0])
    return flat, family, [family[len(family) // 3], *(run for run in deep if shape(run) != largest)]


def depth(run: dict) -> str:
    """E.g. "2+2+1": blocks before, inside and after the chunks."""
    model = run["model"]
    return f"{model['encoder'][0]}+{model['layers']}+{model['decoder'][0]}"


def widths(run: dict) -> str:
    return "/".join(str(width) for width in run["model"]["hidden"])


def draw(runs: list[dict]) -> str:
    """The picture, SVG with its text as text."""
    flat, family, splits = split(runs)
    with pyplot.rc_context(chart_style(NAME)):
        figure, panels = pyplot.subplots(1, 2, figsize=(9.2, 4.2), sharey=True, constrained_layout=True)
        figure.patch.set_alpha(0)
        for axes in panels:
            axes.patch.set_alpha(0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color=INK, alpha=0.2, linewidth=0.6)
            axes.plot(*_coordinates(flat), "s-", color=GRAMS, markersize=5, linewidth=1)
            for run in flat:
                model = run["model"]
                _label(axes, run, f"flat, {model['layers']} x {model['hidden']}", GRAMS, (4, 7))
            axes.set(xscale="log", xlabel="million multiply-adds per byte")
            axes.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
            axes.set_xticks([], minor=True)
            axes.set_xlim(0.45, 2.6)
        panels[0].plot(*_coordinates(family), "o-", color=OURS, markersize=7, linewidth=1)
        for run in family:
            text = f"target {run['model']['target'][0]:g}, found {run['bytes_per_chunk']:.1f}"
            _label(panels[0], run, text, OURS, (8, -4))
        panels[1].plot(*_coordinates(splits), "o", color=PACKERS, markersize=7)
        for run in splits:
            wide = "" if widths(run) == widths(family[0]) else f", {widths(run)} wide"
            _label(panels[1], run, f"{depth(run)}, target {run['model']['target'][0]:g}{wide}", PACKERS, (8, -4))
        panels[0].set_title(
            f"target bytes per chunk ({depth(family[0])} blocks, {widths(family[0])} wide)", fontsize=10
        )
        panels[1].set_title(f"blocks before + inside + after the chunks ({widths(family[0])} wide)", fontsize=10)
        seen = runs[0]["train"]["total_bytes"] / 1e6
        panels[0].set_ylabel(f"held-out bits per byte after {seen:.1f} MB")
        return svg_of(figure)


def _coordinates(runs: list[dict]) -> tuple[list[float], list[float]]:
    return [run["products_per_byte"] / 1e6 for run in runs], [run["bits_per_byte"] for run in runs]


def _label(axes, run: dict, text: str, color: str, offset: tuple[int, int]) -> None:
    at = (run["products_per_byte"] / 1e6, run["bits_per_byte"])
    axes.annotate(text, at, xytext=offset, textcoords="offset points", color=color, fontsize=8)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders that train.py wrote")
    parser.add_argument("--folder", type=Path, default=MODELS, help=f"of {NAME}.json and {NAME}.svg (models)")
    arguments = parser.parse_args()
    table, picture = (arguments.folder / f"{NAME}.{ending}" for ending in ("json", "svg"))
    try:
        if arguments.runs:
            found = [read_run(folder) for folder in arguments.runs]
            table.write_text(json.dumps({"runs": found}, indent=2) + "\n")
        picture.write_text(draw(json.loads(table.read_text())["runs"]), encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"plot_sweep: {error}", file=sys.stderr)
        return 1
    print(f"{picture}: {picture.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
