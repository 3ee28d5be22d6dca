"""The report about training runs shows what the logs say, also of runs that were stopped, or log more or less."""

import base64
import csv
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot

import analyze
from conftest import ROOT
from lm import curves
from lm.checkpoint import save


def write_run(folder, steps=60, level=2.0, lr=0.01, extra=None, ternary=True):
    """A run of 1000 bytes a step; its process was stopped after 40 steps and went on."""
    folder.mkdir(parents=True)
    columns = [*("step", "bytes_seen", "train_bits", "gradient_norm", "lr_factor", "valid_bits", "seconds")]
    with open(folder / "log.csv", "w", newline="") as file:
        log = csv.DictWriter(file, columns + list(extra or {}))
        log.writeheader()
        for step in range(1, steps + 1):
            seconds = 36 * (step if step <= 40 else step - 40)
            row = dict(zip(columns, (step, 1000 * step, level + 1 / step, 0.5, 1 - step / steps, "", seconds)))
            row["valid_bits"] = level + 2 / step if step % 20 == 0 else ""
            log.writerow(row | {name: value(step) for name, value in (extra or {}).items()})
    if ternary:
        rows = [f"{s},{m},0.3,{z},0.4,{f}" for s in (20, 40) for m, z, f in (("a", 0.3, 0.01), ("b", 0.5, 0.001))]
        (folder / "ternary.csv").write_text("\n".join(["step,matrix,minus,zero,plus,flips", *rows]) + "\n")
    settings = {"train": {"lr": lr, "batch": 8}}
    if ternary:
        (folder / "run.json").write_text(json.dumps({"commit": "abc", "settings": settings}))
    else:  # as it was before there was a run.json
        save(folder / "last.pt", {"config": settings, "model": {}, "bytes_seen": 1000 * steps})


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "good", level=1.5, lr=0.02)
    write_run(tmp_path / "bad", extra={"valid_top1": lambda step: 0.1 if step % 20 == 0 else ""}, ternary=False)
    return [curves.read_run(tmp_path / name) for name in ("bad", "good")]


def test_time_goes_on_over_restarts(runs):
    assert runs[0].hours[-1] == pytest.approx(60 * 36 / 3600)
    assert (np.diff(runs[0].hours) > 0).all()


def test_the_table_has_the_best_run_first_and_its_numbers(runs):
    heading, first, second = analyze.comparison(runs)
    found = dict(zip(heading, first))
    assert (first[0], second[0]) == ("good", "bad")
    assert found["steps"] == "60" and found["text seen"] == "0.1 MB" and found["hours"] == "0.60"
    assert found["held out"] == f"{1.5 + 2 / 60:.4f}" and found["best"] == f"{1.5 + 2 / 60:.4f} at 0.1 MB"
    assert found["zeros"] == "0.400" and dict(zip(heading, second))["zeros"] == ""


def test_settings_that_differ_are_shown_and_others_are_not(runs):
    assert curves.differing_settings(runs) == {"train.lr": ["0.01", "0.02"]}


def test_smoothing_keeps_a_constant_and_follows_a_level_past_missing_values():
    assert curves.smooth(np.full(9, 3.0)) == pytest.approx(3.0)
    stepped = curves.smooth(np.array([np.nan, 1.0, np.nan, *[2.0] * 400]))
    assert np.isnan(stepped[0]) and stepped[2] == pytest.approx(1.0) and stepped[-1] == pytest.approx(2.0, abs=1e-3)


def test_the_report_is_one_file_with_every_curve_as_a_picture(runs, tmp_path):
    words = [sys.executable, ROOT / "scripts" / "analyze.py", tmp_path / "bad", tmp_path / "good"]
    done = subprocess.run([*words, "--out", tmp_path / "r.html"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "| good | 60 |" in done.stdout
    page = (tmp_path / "r.html").read_text()
    assert "<td>train.lr<td>0.01<td>0.02" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is fetched from anywhere"
    titles = re.findall(r"<h2>([^<]*)</h2><img", page)
    assert titles == ["Bits per byte", "Learning rate and gradient", "Ternary weights", "Other columns of log.csv"]
    for png in re.findall(r"base64,([^\"]+)", page):
        pixels = pyplot.imread(io.BytesIO(base64.b64decode(png)), format="png")
        assert min(pixels.shape[:2]) > 300 and pixels.std() > 0.05, "a picture with something in it"


def test_logs_with_less_in_them_still_make_a_report(tmp_path):
    (tmp_path / "log.csv").write_text("step,bytes_seen,train_bits\n1,10,3.5\n2,20,3.4\n")
    page = analyze.report([curves.read_run(tmp_path / "log.csv")])
    assert "<td>3.4" in page and "Learning rate" not in page


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), ("a,b\n1,2\n", "bytes_seen"), ("step,bytes_seen,train_bits\n", "no step was logged")],
)
def test_a_folder_without_a_usable_log_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    words = [sys.executable, ROOT / "scripts" / "analyze.py", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert said in done.stderr and "log.csv" in done.stderr and "Traceback" not in done.stderr
