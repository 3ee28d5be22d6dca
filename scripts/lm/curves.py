"""Reads what training runs wrote (log.csv, ternary.csv, run.json) and draws it with matplotlib."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NEEDED = ("step", "bytes_seen", "train_bits")
MOST_POINTS = 1500  # of a drawn curve
SMOOTHING = 0.02  # share of a new value in the running mean of noisy columns


@dataclass
class RunLog:
    """One run. `columns`: name -> [steps] float, NaN where a row has no value; `hours` goes on over restarts."""

    name: str
    columns: dict[str, np.ndarray]
    hours: np.ndarray
    ternary: dict[str, np.ndarray] = field(
        default_factory=dict
    )  # step, zero, zero_low, zero_high, flips: over matrices
    settings: dict[str, object] = field(default_factory=dict)  # "train.lr" -> 0.003

    def valid(self) -> tuple[np.ndarray, np.ndarray]:
        """(indices of the rows with a held-out score, the scores)"""
        scores = self.columns.get("valid_bits", np.full(len(self.hours), np.nan))
        rows = np.flatnonzero(~np.isnan(scores))
        return rows, scores[rows]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _read_csv(path: Path, needed: tuple[str, ...]) -> dict[str, list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: expected the columns {', '.join(needed)}; {', '.join(missing)} missing")
        rows = list(reader)
    if not rows:
        raise ValueError(f"{path}: no step was logged yet")
    return {name: [row[name] for row in rows] for name in reader.fieldnames}


def elapsed_hours(seconds: np.ndarray) -> np.ndarray:
    """Seconds since its process began -> hours of training: where the clock falls, another process went on."""
    seconds = np.nan_to_num(seconds)
    before = np.concatenate(([0.0], np.where(np.diff(seconds) < 0, seconds[:-1], 0.0)))
    return (seconds + before.cumsum()) / 3600


def _read_ternary(path: Path) -> dict[str, np.ndarray]:
    """Means (and range of the zeros) over all matrices, per step."""
    table = _read_csv(path, ("step", "zero", "flips"))
    step, zero, flips = (np.array([_number(x) for x in table[name]]) for name in ("step", "zero", "flips"))
    steps = np.unique(step)
    groups = [step == s for s in steps]
    return {
        "step": steps,
        "zero": np.array([zero[g].mean() for g in groups]),
        "zero_low": np.array([zero[g].min() for g in groups]),
        "zero_high": np.array([zero[g].max() for g in groups]),
        "flips": np.array([flips[g].mean() for g in groups]),
    }


def _read_settings(folder: Path) -> dict[str, object]:
    """From run.json, or from the checkpoint of a run that is older than run.json."""
    if (folder / "run.json").is_file():
        config = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
    elif (folder / "last.pt").is_file():
        from lm import checkpoint  # loads PyTorch, which nothing else here needs

        config = checkpoint.load(folder / "last.pt")["config"]
    else:
        return {}
    return {f"{part}.{key}": value for part, values in config.items() for key, value in values.items()}


def read_run(path: Path) -> RunLog:
    """A run's folder, or a log.csv by itself."""
    log = path / "log.csv" if path.is_dir() else path
    if not log.is_file():
        raise FileNotFoundError(f"{log}: no such file; expected the folder that scripts/train.py --out wrote to")
    columns = {name: np.array([_number(x) for x in texts]) for name, texts in _read_csv(log, NEEDED).items()}
    hours = elapsed_hours(columns.get("seconds", np.full(len(columns["step"]), np.nan)))
    run = RunLog(log.resolve().parent.name, columns, hours)
    ternary = log.parent / "ternary.csv"
    if ternary.is_file() and ternary.read_text().count("\n") > 1:  # a short run has only the heading
        run.ternary = _read_ternary(ternary)
    run.settings = _read_settings(log.parent)
    return run


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
    names = sorted({name for run in runs for name in run.settings})
    table = {name: [str(run.settings.get(name, "")) for run in runs] for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


# ---- drawing


def _line(axes, x: np.ndarray, y: np.ndarray, **style) -> None:
    stride = max(1, len(x) // MOST_POINTS)
    axes.plot(x[::stride], y[::stride], **style)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _figure(panels: int):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(6.2 * panels, 4.2), squeeze=False, constrained_layout=True)
    for panel in axes[0]:
        panel.grid(alpha=0.3)
    return figure, axes[0], pyplot


def draw_loss(runs: list[RunLog]) -> bytes:
    """Bits per byte, in training (smoothed, thin) and held out (dots), against text seen and against time."""
    figure, panels, pyplot = _figure(2)
    levels = []
    for n, run in enumerate(runs):
        color, train = f"C{n}", smooth(run.columns["train_bits"])
        rows, scores = run.valid()
        levels += [*train[len(train) // 4 :], *scores[rows >= len(train) // 4]]  # the first quarter would hide the rest
        for panel, x in zip(panels, (run.columns["bytes_seen"] / 1e6, run.hours)):
            _line(panel, x, train, color=color, alpha=0.55, linewidth=1, label=None if len(rows) else run.name)
            if len(rows):
                panel.plot(x[rows], scores, "o-", color=color, markersize=3, label=f"{run.name}, held out")
    low, high = np.nanmin(levels), np.nanpercentile(levels, 98)
    for panel, label in zip(panels, ("text seen, MB", "training time, hours")):
        panel.set(xlabel=label, ylabel="bits per byte", ylim=(low - 0.03 * (high - low), high + 0.1 * (high - low)))
    panels[0].legend(fontsize=8)
    data = _png(figure)
    pyplot.close(figure)
    return data


def draw_columns(runs: list[RunLog], names: list[str]) -> bytes:
    """Any columns of log.csv against text seen, one panel each; noisy ones smoothed."""
    figure, panels, pyplot = _figure(len(names))
    for panel, name in zip(panels, names):
        for n, run in enumerate(runs):
            values = run.columns.get(name)
            if values is None or np.isnan(values).all():
                continue
            there = np.flatnonzero(~np.isnan(values))
            dense = len(there) > len(values) // 2 and name != "lr_factor"
            x, y = run.columns["bytes_seen"][there] / 1e6, smooth(values[there]) if dense else values[there]
            _line(panel, x, y, color=f"C{n}", marker=None if len(there) > 60 else "o", markersize=3, label=run.name)
        panel.set(xlabel="text seen, MB", title=name.replace("_", " "))
        if name == "gradient_norm":
            panel.set_yscale("log")
    panels[0].legend(fontsize=8)
    data = _png(figure)
    pyplot.close(figure)
    return data


def draw_ternary(runs: list[RunLog]) -> bytes:
    """Share of zeros (mean and range over the matrices) and share of codes that a step flips, against steps."""
    figure, panels, pyplot = _figure(2)
    for n, run in enumerate(runs):
        t = run.ternary
        if not t:
            continue
        panels[0].plot(t["step"], t["zero"], color=f"C{n}", label=run.name)
        panels[0].fill_between(t["step"], t["zero_low"], t["zero_high"], color=f"C{n}", alpha=0.15, linewidth=0)
        panels[1].plot(t["step"], t["flips"], color=f"C{n}", label=run.name)
    panels[0].set(xlabel="step", title="share of weights that are 0 (mean and range over matrices)")
    panels[1].set(xlabel="step", title="share of weights that one step flips", yscale="log")
    panels[0].legend(fontsize=8)
    data = _png(figure)
    pyplot.close(figure)
    return data
