"""The picture of how speed scales shows what the bench measured, and nothing else."""

import json
import re
import subprocess
import sys

import pytest

import plot_bench
from conftest import ROOT


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
    size, prompt, threads = plot_bench.panels(ROWS)
    assert size["lines"] == {"chromium": [(20e6, 100), (1.3e9, 10)], "llama.cpp": [(20e6, 80), (1.3e9, 8)]}
    assert prompt["lines"] == {"chromium": [(16, 50), (256, 90)]}
    assert threads["lines"]["chromium"] == [(1, 10), (2, 19)]


def test_a_panel_without_two_points_is_left_out_and_nothing_to_draw_is_an_error():
    assert [panel["title"] for panel in plot_bench.panels(ROWS[:2])] == ["writing"]
    with pytest.raises(ValueError, match="expected the speed of models of two sizes"):
        plot_bench.draw({"rows": ROWS[:1]})


def test_the_command_writes_a_picture_with_text_beside_the_numbers(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"rows": ROWS}))
    command = [sys.executable, ROOT / "scripts" / "plot_bench.py", tmp_path / "run.json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    texts = set(re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / plot_bench.PICTURE).read_text()))
    assert {"TernLM, Chromium", "llama.cpp TQ2_0, native", "parameters", "bytes of prompt", "threads"} <= texts
    (tmp_path / "run.json").write_text("{}")
    assert subprocess.run(command, capture_output=True).returncode == 1
