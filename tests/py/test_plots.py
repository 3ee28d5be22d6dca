"""Pictures and reports show what was measured and nothing else, also of runs that were stopped, or log more or less."""

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

from conftest import ROOT
from lm import arch
from lm.arch.ternary import BitLinear
from lm.measure import plots

# ---- training runs


def write_run(folder, steps=60, level=2.0, lr=0.01, extra=None, ternary=True):
    """A run of 1000 bytes a step; its process was stopped after 40 steps and went on."""
    folder.mkdir(parents=True)
    columns = [*("step", "bytes_seen", "train_bits", "gradient_norm", "lr_factor", "valid_bits", "seconds")]
    with open(folder / "log.csv", "w", newline="", encoding="utf-8") as file:
        log = csv.DictWriter(file, columns + list(extra or {}))
        log.writeheader()
        for step in range(1, steps + 1):
            seconds = 36 * (step if step <= 40 else step - 40)
            row = dict(zip(columns, (step, 1000 * step, level + 1 / step, 0.5, 1 - step / steps, "", seconds)))
            row["valid_bits"] = level + 2 / step if step % 20 == 0 else ""
            log.writerow(row | {name: value(step) for name, value in (extra or {}).items()})
    if ternary:
        rows = [f"{s},{m},0.3,{z},0.4,{f}" for s in (20, 40) for m, z, f in (("a", 0.3, 0.01), ("b", 0.5, 0.001))]
        (folder / "ternary.csv").write_text(
            "\n".join(["step,matrix,minus,zero,plus,flips", *rows]) + "\n", encoding="utf-8"
        )
    settings = {"train": {"lr": lr, "batch": 8}}
    (folder / "run.json").write_text(json.dumps({"commit": "abc", "settings": settings}), encoding="utf-8")


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "good", level=1.5, lr=0.02)
    write_run(tmp_path / "bad", extra={"valid_top1": lambda step: 0.1 if step % 20 == 0 else ""}, ternary=False)
    return [plots.read_run(tmp_path / name) for name in ("bad", "good")]


def test_time_goes_on_over_restarts(runs):
    assert runs[0].hours[-1] == pytest.approx(60 * 36 / 3600)
    assert (np.diff(runs[0].hours) > 0).all()


def test_the_table_has_the_best_run_first_and_its_numbers(runs):
    heading, first, second = plots.comparison(runs)
    found = dict(zip(heading, first))
    assert (first[0], second[0]) == ("good", "bad")
    assert found["steps"] == "60" and found["text seen"] == "0.1 MB" and found["hours"] == "0.60"
    assert found["held out"] == f"{1.5 + 2 / 60:.4f}" and found["best"] == f"{1.5 + 2 / 60:.4f} at 0.1 MB"
    assert found["zeros"] == "0.400" and dict(zip(heading, second))["zeros"] == ""


def test_settings_that_differ_are_shown_and_others_are_not(runs):
    assert plots.differing_settings(runs) == {"train.lr": ["0.01", "0.02"]}


def test_smoothing_keeps_a_constant_and_follows_a_level_past_missing_values():
    assert plots.smooth(np.full(9, 3.0)) == pytest.approx(3.0)
    stepped = plots.smooth(np.array([np.nan, 1.0, np.nan, *[2.0] * 400]))
    assert np.isnan(stepped[0]) and stepped[2] == pytest.approx(1.0) and stepped[-1] == pytest.approx(2.0, abs=1e-3)


def test_the_report_is_one_file_with_every_curve_as_a_picture(runs, tmp_path):
    words = [sys.executable, ROOT / "scripts" / "plot.py", "runs", tmp_path / "bad", tmp_path / "good"]
    done = subprocess.run([*words, "--out", tmp_path / "r.html"], capture_output=True, encoding="utf-8", cwd="/")
    assert done.returncode == 0, done.stderr
    assert "| good | 60 |" in done.stdout
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<td>train.lr<td>0.01<td>0.02" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is fetched from anywhere"
    titles = re.findall(r"<h2>([^<]*)</h2><img", page)
    assert titles == ["Bits per byte", "Learning rate and gradient", "Ternary weights", "Other columns of log.csv"]
    for png in re.findall(r"base64,([^\"]+)", page):
        pixels = pyplot.imread(io.BytesIO(base64.b64decode(png)), format="png")
        assert min(pixels.shape[:2]) > 300 and pixels.std() > 0.05, "a picture with something in it"


def test_logs_with_less_in_them_still_make_a_report(tmp_path):
    (tmp_path / "log.csv").write_text("step,bytes_seen,train_bits\n1,10,3.5\n2,20,3.4\n", encoding="utf-8")
    page = plots.report([plots.read_run(tmp_path / "log.csv")])
    assert "<td>3.4" in page and "Learning rate" not in page


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), ("a,b\n1,2\n", "bytes_seen"), ("step,bytes_seen,train_bits\n", "no step was logged")],
)
def test_a_folder_without_a_usable_log_is_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "log.csv").write_text(content, encoding="utf-8")
    words = [sys.executable, ROOT / "scripts" / "plot.py", "runs", tmp_path]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/")
    assert done.returncode == 1
    assert said in done.stderr and "log.csv" in done.stderr and "Traceback" not in done.stderr


# ---- models


def test_the_committed_picture_of_the_models_is_of_the_committed_numbers():
    shown = (ROOT / "models" / plots.MODELS_PICTURE).read_text(encoding="utf-8")
    assert shown == plots.draw_models(*plots.read_points(ROOT / "models")), "run scripts/plot.py models"
    texts = set(re.findall(r"<text[^>]*>([^<]*)</text>", shown))
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text(encoding="utf-8"))
    for entry in manifest["models"]:
        assert f"{entry['name']}: {entry['bits_per_byte']:.2f}" in texts
    work = (ROOT / "models" / plots.WORK_PICTURE).read_text(encoding="utf-8")
    assert work == plots.draw_work(manifest["models"]), "run scripts/plot.py models"
    for entry in manifest["models"]:
        assert f"{entry['name']}: {entry['bits_per_byte']:.3f}, {entry['bytes'] / 1e6:.2f} MB" in work
    assert any(text.startswith("5-gram: ") for text in texts)
    assert any(text.startswith("xz -9e") for text in texts) and any(text.startswith("ppmd") for text in texts)


def test_a_model_that_was_scored_on_another_text_is_not_compared(tmp_path):
    points = [
        {"name": "xz -9e", "download": 0, "bits_per_byte": 2.0},
        {"name": "5-gram", "download": 9, "bits_per_byte": 1.5},
    ]
    (tmp_path / "baselines.json").write_text(json.dumps({"text": "a.txt", "points": points}), encoding="utf-8")
    models = [
        {"name": n, "bytes": 10**6, "bits_per_byte": 1.0, "products_per_byte": 10**6, "evaluated_on": text}
        for n, text in (("A", "a.txt"), ("B", "b.txt"))
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    assert [model["name"] for model in plots.read_points(tmp_path)[1]] == ["A"]
    assert "A: 1.00" in plots.write_models(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps({"models": models[1:]}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"no model was scored on a\.txt"):
        plots.read_points(tmp_path)


# ---- a sweep


def test_the_committed_picture_of_the_sweep_is_of_the_committed_numbers():
    runs = json.loads((ROOT / "models" / "hnet-sweep.json").read_text(encoding="utf-8"))["runs"]
    shown = (ROOT / "models" / "hnet-sweep.svg").read_text(encoding="utf-8")
    assert shown == plots.draw_sweep(runs), "run scripts/plot.py sweep"
    texts = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", shown))
    flat, family, splits = plots.split(runs)
    assert len(flat) + len(family) + len(splits) == len(runs) + 1  # one of the family is in both panels
    for run in family:
        assert f"target {run['model']['target'][0]:g}, found {run['bytes_per_chunk']:.1f}" in texts
    for run in splits:
        assert f"{plots.depth(run)}, target {run['model']['target'][0]:g}" in texts


MODELS = [
    {"hidden": 48, "recurrent": 32, "intermediate": 80, "layers": 3},
    {
        **{"architecture": "hnetbit", "hidden": [32, 48], "recurrent": [48, 32], "intermediate": [80, 64]},
        **{"encoder": [2], "decoder": [1], "layers": 3, "router": [16], "target": [4.0]},
        **{"lr_multiplier": [1.0, 1.0], "decay_span": [16.0, 16.0]},
    },
]


@pytest.mark.parametrize("values", MODELS, ids=["flat", "hierarchical"])
def test_products_per_byte_counts_every_matrix_once_and_the_inner_ones_once_per_chunk(values):
    model = arch.build(arch.config_from_dict(values))
    matrices = {
        name: module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, BitLinear) or name.split(".")[-1] in ("router_q", "router_k", "residual")
    }
    inner = sum(count for name, count in matrices.items() if name.startswith("main."))
    expected = sum(matrices.values()) - inner + inner / 4
    assert plots.products_per_byte(arch.config_to_dict(model.config), 4.0) == pytest.approx(expected)


def test_a_run_that_has_not_reached_its_end_is_refused(tmp_path):
    settings = {"model": MODELS[0], "train": {"total_bytes": 100}}
    (tmp_path / "run.json").write_text(json.dumps({"parameters": 1, "settings": settings}), encoding="utf-8")
    (tmp_path / "log.csv").write_text("step,bytes_seen,train_bits,valid_bits\n1,50,2,2.5\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not reached its end"):
        plots.sweep_entry(tmp_path)


def test_a_sweep_without_a_flat_model_is_refused():
    with pytest.raises(ValueError, match="found 0 and 1"):
        plots.split([{"bytes_per_chunk": 4.0}])


# ---- the bench


def row(engine, bench, value, what="", **of):
    return {"engine": engine, "what": what, "value": value, "of": {"bench": bench, "threads": 1, **of}}


ROWS = [
    row("chromium", "decode", 100, model="random 20M"),
    row("chromium", "decode", 10, model="random 1.3B"),
    row("chromium", "page", 19, what="package writes, random 1.3B, 2 threads", model="random 1.3B", threads=2),
    row("chromium", "page", 17, what="package reads, random 1.3B, 2 threads", model="random 1.3B", threads=2),
    row("chromium", "prompt", 50, model="random 20M", prompt_bytes=16),
    row("chromium", "prompt", 90, model="random 20M", prompt_bytes=256),
    row("llama.cpp", "decode", 80, model="random 20M", type="TQ2_0"),
    row("llama.cpp", "decode", 8, model="random 1.3B", type="TQ2_0"),
    row("llama.cpp", "decode", 1, model="random 1.3B", type="Q4_0"),
    row("chromium", "decode", 5, model="tinystories-3m5"),
]


def test_a_panel_shows_each_engines_points_in_order_and_only_those_it_is_about():
    size, prompt, threads = plots.bench_panels(ROWS)
    assert size["lines"] == {"chromium": [(20e6, 100), (1.3e9, 10)], "llama.cpp": [(20e6, 80), (1.3e9, 8)]}
    assert prompt["lines"] == {"chromium": [(16, 50), (256, 90)]}
    assert threads["lines"]["chromium"] == [(1, 10), (2, 19)]


def test_a_panel_without_two_points_is_left_out_and_nothing_to_draw_is_an_error():
    assert [panel["title"] for panel in plots.bench_panels(ROWS[:2])] == ["writing"]
    with pytest.raises(ValueError, match="expected the speed of models of two sizes"):
        plots.draw_bench({"rows": ROWS[:1]})


def test_the_command_writes_a_picture_with_text_beside_the_numbers(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"rows": ROWS}), encoding="utf-8")
    command = [sys.executable, ROOT / "scripts" / "plot.py", "bench", tmp_path / "run.json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd="/")
    assert done.returncode == 0, done.stderr
    texts = set(re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / plots.BENCH_PICTURE).read_text(encoding="utf-8")))
    assert {"TernLM, Chromium", "llama.cpp TQ2_0, native", "parameters", "bytes of prompt", "threads"} <= texts
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert subprocess.run(command, capture_output=True).returncode == 1
