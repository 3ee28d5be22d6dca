"""Draws what was measured: training runs, models among baselines, a sweep of hierarchical models, the speed of the bench.

Nothing is computed here but means. The same numbers give the same bytes of SVG; its colours are readable on light and on
dark pages.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np

from lm import ROOT, arch
from lm.text.files import read_text, write_text
from lm.text.tables import markdown

matplotlib.use("Agg")
from matplotlib import pyplot, ticker

INK, OURS, GRAMS, PACKERS = "#777777", "#2f81f7", "#b08800", "#8a63d2"  # each 4:1 or nearly, on white and on black


def svg(salt: str, draw: Callable, panels: int, size: tuple[float, float], font: int = 10, **options) -> str:
    """draw(figure, axes) on so many panels -> SVG with its text as text; `salt` distinguishes the pictures of one page."""
    style = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": font}
    style |= {key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, panels, figsize=size, constrained_layout=True, squeeze=False, **options)
        figure.patch.set_alpha(0)
        for ax in axes[0]:
            ax.patch.set_alpha(0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(color=INK, alpha=0.2, linewidth=0.6)
        draw(figure, axes[0])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def png(draw: Callable, panels: int) -> bytes:
    figure, axes = pyplot.subplots(1, panels, figsize=(6.2 * panels, 4.2), squeeze=False, constrained_layout=True)
    for ax in axes[0]:
        ax.grid(alpha=0.3)
    draw(axes[0])
    axes[0][0].legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    return buffer.getvalue()


# ---- training runs: what they logged, as one page

NEEDED = ("step", "bytes_seen", "train_bits")
COMMON = ("lr_factor", "gradient_norm")
DRAWN_APART = {*NEEDED, *COMMON, "valid_bits", "seconds"}  # in the first figures, or axes of them
MOST_POINTS = 1500  # of a drawn curve
SMOOTHING = 0.02  # share of a new value in the running mean of noisy columns


@dataclass
class RunLog:
    """One run. `columns`: name -> [steps] float, NaN where a row has no value; `hours` goes on over restarts."""

    name: str
    columns: dict[str, np.ndarray]
    hours: np.ndarray
    ternary: dict[str, np.ndarray]  # step, zero, zero_low, zero_high, flips: over matrices; empty without ternary.csv
    facts: dict = field(default_factory=dict)  # run.json

    def valid(self) -> tuple[np.ndarray, np.ndarray]:
        """(indices of the rows with a held-out score, the scores)"""
        scores = self.columns.get("valid_bits", np.full(len(self.hours), np.nan))
        rows = np.flatnonzero(~np.isnan(scores))
        return rows, scores[rows]

    def settings(self) -> dict[str, object]:
        """ "train.lr" -> 0.003"""
        sections = self.facts.get("settings", {})
        return {f"{part}.{key}": value for part, values in sections.items() for key, value in values.items()}


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _columns(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A CSV file's columns; NaN for what is no number."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: expected the columns {', '.join(needed)}; {', '.join(missing)} missing")
        rows = list(reader)
    return {name: np.array([_number(row[name]) for row in rows]) for name in reader.fieldnames}


def elapsed_hours(seconds: np.ndarray) -> np.ndarray:
    """Seconds since its process began -> hours of training: where the clock falls, another process went on."""
    seconds = np.nan_to_num(seconds)
    before = np.concatenate(([0.0], np.where(np.diff(seconds) < 0, seconds[:-1], 0.0)))
    return (seconds + before.cumsum()) / 3600


def _over_matrices(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of ternary.csv, a row per matrix -> means, and the range of the zeros, per step."""
    steps = np.unique(table["step"])
    groups = [table["step"] == step for step in steps]
    zero, flips = ([table[name][group] for group in groups] for name in ("zero", "flips"))
    over = {"zero": (zero, np.mean), "zero_low": (zero, np.min), "zero_high": (zero, np.max), "flips": (flips, np.mean)}
    return {"step": steps} | {name: np.array([f(part) for part in parts]) for name, (parts, f) in over.items()}


def read_run(path: Path) -> RunLog:
    """A run's folder, or a log.csv by itself."""
    log = path / "log.csv" if path.is_dir() else path
    if not log.is_file():
        raise FileNotFoundError(f"{log}: no such file; expected the folder that scripts/train.py --out wrote to")
    columns = _columns(log, NEEDED)
    if not len(columns["step"]):
        raise ValueError(f"{log}: no step was logged yet")
    hours = elapsed_hours(columns.get("seconds", np.full(len(columns["step"]), np.nan)))
    ternary, facts = log.with_name("ternary.csv"), log.with_name("run.json")
    codes = _columns(ternary, ("step", "zero", "flips")) if ternary.is_file() else {"step": []}
    return RunLog(
        log.resolve().parent.name,
        columns,
        hours,
        _over_matrices(codes) if len(codes["step"]) else {},  # a short run has only the heading
        json.loads(read_text(facts)) if facts.is_file() else {},
    )


def smooth(values: np.ndarray) -> np.ndarray:
    """Running mean; missing values keep the last one."""
    out, mean, weight = np.empty_like(values), 0.0, 0.0
    for i, value in enumerate(values):
        if not np.isnan(value):
            mean, weight = mean + SMOOTHING * (value - mean), weight + SMOOTHING * (1 - weight)
        out[i] = mean / weight if weight else np.nan  # without the pull of the first zero
    return out


def differing_settings(runs: list[RunLog]) -> dict[str, list[str]]:
    """Setting -> its value in each run ("" where unknown), for those that are not the same everywhere."""
    names = sorted({name for run in runs for name in run.settings()})
    table = {name: [str(run.settings().get(name, "")) for run in runs] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def comparison(runs: list[RunLog]) -> list[list[str]]:
    """A heading and a row per run, best held-out score first (runs without one last)."""
    rows = []
    for run in runs:
        at, scores = run.valid()
        bits, seen, hours = run.columns["train_bits"], run.columns["bytes_seen"], run.hours[-1]
        best = int(scores.argmin()) if len(scores) else None
        row = [run.name, f"{run.columns['step'][-1]:,.0f}", f"{seen[-1] / 1e6:.1f} MB"]
        row += [f"{hours:.2f}", f"{(seen[-1] - seen[0]) / hours / 3600:,.0f}"] if hours > 0 else ["", ""]
        row += [f"{np.nanmean(bits[-max(1, len(bits) // 50) :]):.4f}", f"{scores[-1]:.4f}" if len(scores) else ""]
        row += [f"{scores[best]:.4f} at {seen[at[best]] / 1e6:.1f} MB" if len(scores) else ""]
        rows.append([*row, f"{run.ternary['zero'][-1]:.3f}" if run.ternary else ""])
    rows.sort(key=lambda row: float(row[7].split()[0]) if row[7] else math.inf)
    return [RUN_COLUMNS, *rows]


RUN_COLUMNS = ["run", "steps", "text seen", "hours", "bytes/s", "train bits (last 2 %)", "held out", "best", "zeros"]


def _line(axes, x: np.ndarray, y: np.ndarray, **style) -> None:
    stride = max(1, len(x) // MOST_POINTS)
    axes.plot(x[::stride], y[::stride], **style)


def draw_loss(runs: list[RunLog], panels) -> None:
    """Bits per byte, in training (smoothed, thin) and held out (dots), against text seen and against time."""
    levels = []
    for n, run in enumerate(runs):
        train, (rows, scores) = smooth(run.columns["train_bits"]), run.valid()
        levels += [*train[len(train) // 4 :], *scores[rows >= len(train) // 4]]  # the first quarter would hide the rest
        for ax, x in zip(panels, (run.columns["bytes_seen"] / 1e6, run.hours)):
            _line(ax, x, train, color=f"C{n}", alpha=0.55, linewidth=1, label=None if len(rows) else run.name)
            if len(rows):
                ax.plot(x[rows], scores, "o-", color=f"C{n}", markersize=3, label=f"{run.name}, held out")
    low, high = np.nanmin(levels), np.nanpercentile(levels, 98)
    for ax, label in zip(panels, ("text seen, MB", "training time, hours")):
        ax.set(xlabel=label, ylabel="bits per byte", ylim=(low - 0.03 * (high - low), high + 0.1 * (high - low)))


def draw_columns(runs: list[RunLog], names: list[str], panels) -> None:
    """Any columns of log.csv against text seen, one panel each; noisy ones smoothed."""
    for ax, name in zip(panels, names):
        for n, run in enumerate(runs):
            values = run.columns.get(name, np.full(len(run.hours), np.nan))
            there = np.flatnonzero(~np.isnan(values))
            dense = len(there) > len(values) // 2 and name != "lr_factor"
            x, y = run.columns["bytes_seen"][there] / 1e6, smooth(values[there]) if dense else values[there]
            if len(there):
                _line(ax, x, y, color=f"C{n}", marker=None if len(there) > 60 else "o", markersize=3, label=run.name)
        scale = "log" if name == "gradient_norm" else "linear"
        ax.set(xlabel="text seen, MB", title=name.replace("_", " "), yscale=scale)


def draw_ternary(runs: list[RunLog], panels) -> None:
    """Share of zeros (mean and range over the matrices) and share of codes that a step flips, against steps."""
    for n, run in enumerate(runs):
        if t := run.ternary:
            panels[0].plot(t["step"], t["zero"], color=f"C{n}", label=run.name)
            panels[0].fill_between(t["step"], t["zero_low"], t["zero_high"], color=f"C{n}", alpha=0.15, linewidth=0)
            panels[1].plot(t["step"], t["flips"], color=f"C{n}", label=run.name)
    panels[0].set(xlabel="step", title="share of weights that are 0 (mean and range over matrices)")
    panels[1].set(xlabel="step", title="share of weights that one step flips", yscale="log")


def figures(runs: list[RunLog]) -> list[tuple[str, bytes]]:
    """(title, PNG)"""
    names = dict.fromkeys(n for run in runs for n, values in run.columns.items() if not np.isnan(values).all())
    common, others = [n for n in COMMON if n in names], [n for n in names if n not in DRAWN_APART]
    columns = lambda some: png(lambda panels: draw_columns(runs, some, panels), len(some))  # noqa: E731
    made = [("Bits per byte", png(lambda panels: draw_loss(runs, panels), 2))]
    if common:
        made.append(("Learning rate and gradient", columns(common)))
    if any(run.ternary for run in runs):
        made.append(("Ternary weights", png(lambda panels: draw_ternary(runs, panels), 2)))
    for first in range(0, len(others), 3):
        made.append(("Other columns of log.csv" if first == 0 else "", columns(others[first : first + 3])))
    return made


def _html_table(table: list[list[str]]) -> str:
    rows = ["".join(f"<{'td' if n else 'th'}>{html.escape(cell)}" for cell in row) for n, row in enumerate(table)]
    return "<table>" + "".join(f"<tr>{row}" for row in rows) + "</table>"


PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Training runs</title><style>'
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1300px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left}img{max-width:100%}"
    "</style><h1>Training runs</h1>"
)


def report(runs: list[RunLog]) -> str:
    """A page that needs nothing beside it."""
    settings, parts = differing_settings(runs), [PAGE, _html_table(comparison(runs))]
    if settings:
        table = [["setting", *(run.name for run in runs)], *([name, *values] for name, values in settings.items())]
        parts += ["<h2>Settings that differ</h2>", _html_table(table)]
    for title, picture in figures(runs):
        source = "data:image/png;base64," + base64.b64encode(picture).decode()
        parts.append(f'<h2>{html.escape(title)}</h2><img alt="{html.escape(title)}" src="{source}">')
    return "".join(parts) + "</html>\n"


def runs_table(runs: list[RunLog]) -> str:
    """The comparison as Markdown."""
    return markdown(comparison(runs))


# ---- models: bits per byte against download size

MODELS = ROOT / "models"
MODELS_PICTURE = "bits-per-byte.svg"
BUDGETS = (1e6, 5e6)  # bytes of download that we aim at


def read_points(folder: Path) -> tuple[dict, list[dict], list[dict]]:
    """-> baselines.json, our models (with `download`) and the other points; models scored on another text are left out."""
    baselines, manifest = (json.loads(read_text(folder / name)) for name in ("baselines.json", "manifest.json"))
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


def _annotate(axes, point: dict, text: str, color: str, offset: tuple[int, int], **style) -> None:
    at = (point["x"], point["bits_per_byte"])
    axes.annotate(text, at, xytext=offset, textcoords="offset points", color=color, **style)


def _coordinates(points: list[dict]) -> tuple[list[float], list[float]]:
    return [point["x"] for point in points], [point["bits_per_byte"] for point in points]


def best_of_their_size(points: list[dict]) -> list[dict]:
    """Those that need fewer bits than every smaller one, the smallest first."""
    ordered = sorted(points, key=lambda point: (point["x"], point["bits_per_byte"]))
    smaller = lambda n: [point["bits_per_byte"] for point in ordered[:n]]  # noqa: E731
    return [point for n, point in enumerate(ordered) if point["bits_per_byte"] < min(smaller(n), default=math.inf)]


def draw_models(baselines: dict, ours: list[dict], others: list[dict]) -> str:
    """What `read_points` gives, as SVG."""
    ours, others = ([{**point, "x": point["download"]} for point in points] for points in (ours, others))
    grams = [point for point in others if point["name"].endswith("-gram")]
    packers = [point for point in others if point not in grams]

    def label(axes, point: dict, color: str, offset: tuple[int, int], **style) -> None:
        text = f"{point['name']}: {point['bits_per_byte']:.2f}"
        _annotate(axes, point, text, color, offset, fontsize=9, **style)

    def draw(_, panels) -> None:
        (axes,) = panels
        left = min(point["x"] for point in [*ours, *grams, *packers] if point["x"]) / 2
        axes.set(xscale="log", xlim=(left, 3 * max(point["x"] for point in [*ours, *others])))
        axes.plot(*_coordinates(grams), "s-", color=GRAMS, markersize=5, linewidth=1)
        axes.plot(*_coordinates(ours), "o", color=OURS, markersize=9)
        axes.plot(*_coordinates(best_of_their_size(ours)), color=OURS, linewidth=1)
        smallest = min(ours, key=lambda point: point["x"])
        for point in ours:  # beside the dots, away from each other
            place, side = ((-9, -4), "right") if point is smallest else ((9, -4), "left")
            label(axes, point, OURS, place, ha=side, weight="bold")
        for point in grams:
            label(axes, point, GRAMS, (6, 6))
        right = axes.get_xlim()[1]
        for point in packers:
            level = point["bits_per_byte"]
            if point["x"]:
                axes.plot(*_coordinates([point]), "D", color=PACKERS, markersize=6)
            else:  # at the left edge, and the level that a download has to beat
                axes.axhline(level, color=PACKERS, linewidth=1, linestyle=":")
                axes.plot([left], [level], "D", color=PACKERS, markersize=6, clip_on=False)
            name = point["name"] + ("" if point["x"] else ", nothing to download")
            label(axes, {**point, "name": name, "x": right}, PACKERS, (0, 6), ha="right")
        for budget in BUDGETS:
            axes.axvline(budget, color=INK, alpha=0.35, linewidth=0.8, linestyle="--")
        ticks = [size for size in (1e3, 1e4, 1e5, 1e6, 5e6, 1e7) if left <= size <= axes.get_xlim()[1]]
        axes.set_xticks(ticks, [f"{size / 1e6:g} MB" if size >= 1e6 else f"{size / 1e3:g} KB" for size in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="download", ylabel=f"bits per byte, {baselines['text'].removesuffix('.txt')}")
        axes.set_ylim(min(point["bits_per_byte"] for point in [*ours, *others]) - 0.2, None)

    return svg("bits per byte", draw, 1, (7.6, 4.4))


WORK_PICTURE = "bits-and-work.svg"


def draw_work(models: list[dict]) -> str:
    """Entries of the manifest: bits per byte against multiply-adds per byte, as SVG."""
    points = sorted(
        ({**model, "x": model["products_per_byte"] / 1e6} for model in models), key=lambda point: point["x"]
    )

    def draw(_, panels) -> None:
        (axes,) = panels
        axes.plot(*_coordinates(points), "o", color=OURS, markersize=8)
        for point in points:
            text = f"{point['name']}: {point['bits_per_byte']:.3f}, {point['bytes'] / 1e6:.2f} MB"
            _annotate(axes, point, text, OURS, (9, -4), fontsize=9)
        axes.set(xlabel="million multiply-adds per byte", ylabel="bits per byte")
        axes.set_xlim(0, 1.5 * points[-1]["x"])
        axes.margins(y=0.15)

    return svg("work", draw, 1, (7.6, 3.2))


def write_models(folder: Path) -> Path:
    """Draws the folder's models anew, against their size and against their work."""
    path = folder / MODELS_PICTURE
    baselines, ours, others = read_points(folder)
    write_text(path, draw_models(baselines, ours, others))
    write_text(folder / WORK_PICTURE, draw_work(json.loads(read_text(folder / "manifest.json"))["models"]))
    return path


# ---- a sweep: short runs of hierarchical and flat models, bits per byte against the work per byte

SWEEP = "hnet-sweep"
SETTINGS = ("total_bytes", "decay_bytes", "warmup_bytes", "batch", "length", "lr", "matrix_lr", "seed", "valid_bytes")


def block_products(hidden: int, recurrent: int, intermediate: int) -> int:
    """Multiply-adds of the matrices of one HGRN-bit block for one position."""
    return 4 * hidden * recurrent + 3 * hidden * intermediate


def products_per_byte(model: dict, chunk: float) -> float:
    """Multiply-adds of all matrices per position; `model` as in a checkpoint, of one stage, with `chunk` bytes per chunk."""
    if model.get("architecture", "hgrnbit") == "hgrnbit":
        block = block_products(model["hidden"], model["recurrent"], model["intermediate"])
        return model["layers"] * block + model.get("vocab_size", 256) * model["hidden"]
    outer, inner = (
        block_products(*sizes) for sizes in zip(*(model[k] for k in ("hidden", "recurrent", "intermediate")))
    )
    hidden, (router,) = model["hidden"][0], model["router"]
    around = 2 * hidden * router + hidden * hidden + 256 * hidden  # router, residual, head
    return (model["encoder"][0] + model["decoder"][0]) * outer + around + model["layers"] * inner / chunk


def sweep_entry(folder: Path) -> dict:
    """The settings and the last held-out score of a run; ValueError if it has not reached its end."""
    run = read_run(folder)
    rows, scores = run.valid()
    if not len(rows) or run.columns["bytes_seen"][rows[-1]] < run.facts["settings"]["train"]["total_bytes"]:
        raise ValueError(f"{folder}: the run has not reached its end and has no final held-out score")
    model = arch.config_to_dict(arch.config_from_dict(run.facts["settings"]["model"]))
    late = run.columns.get("boundaries_0", np.zeros(0))[-len(run.hours) // 10 :]  # the last tenth of the run
    chunk = 1 / float(np.mean(late)) if len(late) else 1.0
    return {
        "name": folder.name,
        "parameters": run.facts["parameters"],
        "bits_per_byte": round(float(scores[-1]), 4),
        "bytes_per_chunk": round(chunk, 2) if len(late) else None,
        "products_per_byte": round(products_per_byte(model, chunk)),
        "model": model,
        "train": {key: run.facts["settings"]["train"][key] for key in SETTINGS},
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


def draw_sweep(runs: list[dict]) -> str:
    """Left: models that differ in their target chunk length only; right: the ways to split the depth between the levels.

    In both, the flat models of the same sweep are the line to beat.
    """
    flat, family, splits = split([{**run, "x": run["products_per_byte"] / 1e6} for run in runs])
    widths = lambda run: "/".join(str(width) for width in run["model"]["hidden"])  # noqa: E731

    def draw(_, panels) -> None:
        for axes in panels:
            axes.plot(*_coordinates(flat), "s-", color=GRAMS, markersize=5, linewidth=1)
            for run in flat:
                text = f"flat, {run['model']['layers']} x {run['model']['hidden']}"
                _annotate(axes, run, text, GRAMS, (4, 7), fontsize=8)
            axes.set(xscale="log", xlabel="million multiply-adds per byte")
            axes.set_xticks([0.5, 0.7, 1, 1.4, 2], ["0.5", "0.7", "1", "1.4", "2"])
            axes.set_xticks([], minor=True)
            axes.set_xlim(0.45, 2.6)
        panels[0].plot(*_coordinates(family), "o-", color=OURS, markersize=7, linewidth=1)
        for run in family:
            text = f"target {run['model']['target'][0]:g}, found {run['bytes_per_chunk']:.1f}"
            _annotate(panels[0], run, text, OURS, (8, -4), fontsize=8)
        panels[1].plot(*_coordinates(splits), "o", color=PACKERS, markersize=7)
        for run in splits:
            wide = "" if widths(run) == widths(family[0]) else f", {widths(run)} wide"
            text = f"{depth(run)}, target {run['model']['target'][0]:g}{wide}"
            _annotate(panels[1], run, text, PACKERS, (8, -4), fontsize=8)
        named = f"{depth(family[0])} blocks, {widths(family[0])} wide"
        panels[0].set_title(f"target bytes per chunk ({named})", fontsize=10)
        panels[1].set_title(f"blocks before + inside + after the chunks ({widths(family[0])} wide)", fontsize=10)
        seen = runs[0]["train"]["total_bytes"] / 1e6
        panels[0].set_ylabel(f"held-out bits per byte after {seen:.1f} MB")

    return svg(SWEEP, draw, 2, (9.2, 4.2), sharey=True)


# ---- the bench: how speed scales with the size of the model, the prompt, and the threads

BENCH = ROOT / "build" / "bench" / "bench.json"
BENCH_PICTURE = "scaling.svg"
ENGINES = {
    "chromium": (OURS, "o-", "TernLM, Chromium"),
    "firefox": (GRAMS, "s-", "TernLM, Firefox"),
    "native": ("#2da44e", "^-", "TernLM, native"),
    "llama.cpp": (PACKERS, "D--", "llama.cpp TQ2_0, native"),
    "wllama": ("#cf4a6a", "v--", "wllama TQ2_0, Chromium"),
}
UNITS = {"M": 1e6, "B": 1e9}


def parameters(model: str) -> float | None:
    """ "random 1.3B" -> 1.3e9; None for a name without a size."""
    found = re.fullmatch(r"random ([\d.]+)([MB])", model)
    return float(found[1]) * UNITS[found[2]] if found else None


def short(number: float) -> str:
    """1.3e9 -> "1.3B"."""
    return next((f"{number / size:g}{unit}" for unit, size in reversed(UNITS.items()) if number >= size), f"{number:g}")


def measured(row: dict) -> str:
    """What a row is about. With threads the bench measures writing in a browser through the package alone."""
    of = row["of"]
    through_package = of["bench"] == "page" and row.get("what", "").startswith("package writes")
    return "decode" if through_package and of["threads"] > 1 else of["bench"]


def bench_lines(rows: list[dict], bench: str, x: Callable) -> dict[str, list[tuple[float, float]]]:
    """-> per engine (x of a row, value), in the order of x; rows for which x gives None are left out."""
    found: dict[str, dict[float, float]] = {}
    for row in rows:
        of = row["of"]
        if measured(row) != bench or row["engine"] not in ENGINES or of.get("type", "TQ2_0") != "TQ2_0":
            continue
        if (at := x(of)) is not None:
            found.setdefault(row["engine"], {})[at] = row["value"]
    return {engine: sorted(found[engine].items()) for engine in ENGINES if engine in found}


def bench_panels(rows: list[dict]) -> list[dict]:
    """What there is to draw; a panel needs two points of some engine."""
    size = lambda of: parameters(of["model"]) if of["threads"] == 1 else None  # noqa: E731
    prompt = lambda of: of["prompt_bytes"] if of["model"] == "random 20M" and of["threads"] == 1 else None  # noqa: E731
    threads = lambda of: of["threads"] if of["model"] == "random 1.3B" else None  # noqa: E731
    wanted = [
        {"title": "writing", "x": "parameters", "lines": bench_lines(rows, "decode", size)},
        {"title": "reading a prompt", "x": "parameters", "lines": bench_lines(rows, "prefill", size)},
        {"title": "reading, 20M", "x": "bytes of prompt", "lines": bench_lines(rows, "prompt", prompt)},
        {"title": "writing, 1.3B", "x": "threads", "lines": bench_lines(rows, "decode", threads)},
    ]
    return [panel for panel in wanted if any(len(line) > 1 for line in panel["lines"].values())]


def draw_bench(result: dict) -> str:
    """A result of `npm run bench` as SVG; panels without measurements are left out."""
    drawn = bench_panels(result.get("rows", []))
    if not drawn:
        raise ValueError("expected the speed of models of two sizes, or of two lengths of a prompt; found neither")

    def draw(figure, axes) -> None:
        for ax, panel in zip(axes, drawn):
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
        axes[0].set_ylabel("bytes (llama: tokens) per second")
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)

    return svg("bench", draw, len(drawn), (3.1 * len(drawn), 3.4), font=9)
