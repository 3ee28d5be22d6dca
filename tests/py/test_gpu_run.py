"""A run for a lent machine, rehearsed: a folder is enough, time is kept, pieces come back and are gone on from, also after a kill."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest
import torch

import gpu_run
import tiny_run
from conftest import ROOT
from lm.arch import scan
from lm.fast import gpu
from lm.file import checkpoint
from lm.train import loop, pieces
from make_golden import random_model
from tiny_run import TINY, settings

THREADS = 1

CONFIG = """
[model]
hidden = 24
recurrent = 24
intermediate = 32
layers = 1
[data]
train = ["{0}/tales.txt"]
valid = "{0}/tales.txt"
[train]
total_bytes = {1}
batch = 4
length = 16
warmup_bytes = 64
decay_bytes = 0
lr = 0.02
valid_bytes = 64
valid_every = 1000
sample_every = 0
ternary_every = 0
seed = {2}
"""


def command(script, *words, **options):
    """-> (exit status, output, error output), started where nothing of the repository is."""
    command = [sys.executable, script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd="/", **options)
    return done.returncode, done.stdout, done.stderr


def packed(folder, steps, *words):
    """A packed run of so many steps in folder/there."""
    (folder / "tales.txt").write_text("abcdefghijklmnop" * 4 + "\n<|endoftext|>\n" * 60, encoding="utf-8")
    (folder / "run.toml").write_text(CONFIG.format(folder, steps * 64, tiny_run.SEED), encoding="utf-8")
    status, _, fault = command(
        ROOT / "scripts" / "gpu_run.py", "pack", folder / "run.toml", "--out", folder / "there", *words
    )
    assert status == 0, fault
    return folder / "there"


def log_of(out) -> list[dict]:
    with tarfile.open(out / gpu_run.LOGS) as logs:
        return list(csv.DictReader(io.TextIOWrapper(logs.extractfile("log.csv"), encoding="utf-8")))


@pytest.mark.trains
def test_a_run_that_was_killed_goes_on_from_its_pieces_in_the_next_call(tmp_path, hold):
    there, out = packed(tmp_path, 40), tmp_path / "out"
    alone = {**os.environ, "PYTHONPATH": ""}
    words = [sys.executable, there / "gpu_run.py", "train", "--out", out, "--seconds", "600", "--save-seconds", "0.2"]
    words += ["--set", "train.total_bytes=64_000_000", "--piece-bytes", "20000", "--optimizers"]
    with subprocess.Popen([*map(str, words)], stdout=subprocess.DEVNULL, cwd="/", env=alone) as process:
        deadline = time.monotonic() + 300
        while (pieces.facts(out) or {"step": 0})["step"] < 3 and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    reached = pieces.facts(out)["step"]
    assert reached >= 3
    more = reached + 20
    words = [
        "train",
        "--out",
        out,
        "--seconds",
        "600",
        "--set",
        f"train.total_bytes={more * 64}",
        "--piece-bytes",
        "20000",
    ]
    status, said, fault = command(there / "gpu_run.py", *words, env=alone)
    assert status == 0, fault
    assert f"goes on from {out}: step {reached:,}, {reached * 64:,} bytes, with optimizers" in said
    assert said.endswith(f"finished: step {more:,}, {more * 64:,} bytes seen\n")
    assert "linear_chunked, within" in said or "scan_loop, within" in said
    log = log_of(out)
    assert [int(row["step"]) for row in log] == list(range(1, more + 1)), "each step once"
    hold("bits learned", float(log[0]["train_bits"]) - float(log[-1]["train_bits"]), above=1)
    found = pieces.facts(out)
    assert len(found["pieces"]) > 1 and found["step"] == more and not found["optimizers"]
    assert max((out / name).stat().st_size for name in found["pieces"]) <= 20_000
    assert {path.name for path in out.iterdir()} == {"checkpoint.json", gpu_run.LOGS, *found["pieces"]}
    status, _, fault = command(ROOT / "scripts" / "gpu_run.py", "join", out, tmp_path / "last.pt")
    assert status == 0, fault
    model, content = checkpoint.load_model(tmp_path / "last.pt")
    assert content["bytes_seen"] == more * 64 and model.norm.weight.dtype == torch.float32


def test_a_run_ends_in_time_and_is_packed_again_with_what_came_back(tmp_path):
    there, out = packed(tmp_path, 1_000_000), tmp_path / "out"
    status, said, fault = command(there / "gpu_run.py", "train", "--out", out, "--seconds", "10")
    assert status == 0, fault
    step = pieces.facts(out)["step"]
    assert said.endswith(f"out of time: step {step:,}, {64 * step:,} bytes seen\n")
    assert json.loads(said.splitlines()[-2])["bytes_seen"] == 64 * step
    (tmp_path / "again").mkdir()
    again = packed(tmp_path / "again", 1_000_000, "--begin", out)
    status, said, fault = command(again / "gpu_run.py", "train", "--out", tmp_path / "more", "--seconds", "0.1")
    assert status == 0, fault
    assert f"goes on from {again}: step {step:,}" in said
    assert pieces.facts(tmp_path / "more")["step"] == step, "no time for a step, and nothing is lost"


def test_a_folder_names_its_text_and_settings_relative_to_itself_and_has_a_teacher(tmp_path):
    content = {"config": {"model": {"architecture": "hgrnbit", **vars(TINY)}}, "bytes_seen": 7}
    checkpoint.save(tmp_path / "big.pt", content | {"model": random_model(TINY, seed=1).state_dict()})
    there = packed(tmp_path, 3, "--set", f"train.teacher={tmp_path / 'big.pt'}")
    values = json.loads((there / gpu_run.SETTINGS).read_text(encoding="utf-8"))
    assert values["data"]["train"] == ["text/0-tales.bin"] and values["data"]["valid"] == "text/0-tales.bin"
    assert str(tmp_path) not in (there / gpu_run.SETTINGS).read_text(encoding="utf-8")
    status, said, fault = command(there / "gpu_run.py", "train", "--out", tmp_path / "out", "--seconds", "600")
    assert status == 0, fault
    assert "teacher: hgrnbit" in said
    assert all(row["teacher_bits"] for row in log_of(tmp_path / "out"))


def test_a_folder_that_is_too_large_is_refused_with_the_largest_files(tmp_path, monkeypatch):
    (tmp_path / "tales.txt").write_text("abc\n" * 100, encoding="utf-8")
    (tmp_path / "run.toml").write_text(CONFIG.format(tmp_path, 640, tiny_run.SEED), encoding="utf-8")
    monkeypatch.setattr(gpu_run, "LARGEST", 1000)
    monkeypatch.setattr(sys, "argv", ["gpu_run", "pack", str(tmp_path / "run.toml"), "--out", str(tmp_path / "there")])
    with pytest.raises(ValueError, match=r"bytes to send, expected at most 1,000; largest: "):
        gpu_run.main()
    assert not (tmp_path / "there").exists()


def trained(tmp_path):
    run = settings(tmp_path, total_bytes=4 * 128)
    loop.train(run, tmp_path / "run")
    return checkpoint.load(tmp_path / "run" / "last.pt")


@pytest.mark.parametrize("optimizers", [True, False])
def test_joined_pieces_are_the_checkpoint_rounded_to_bf16(tmp_path, optimizers):
    content = trained(tmp_path)
    files = pieces.write(tmp_path / "out", content, optimizers, piece=7000)
    assert len(files) > 3 and all(path.stat().st_size <= 7000 for path in files)
    pieces.join(tmp_path / "out", tmp_path / "joined.pt")
    joined = checkpoint.load(tmp_path / "joined.pt")
    for name, weight in content["model"].items():
        assert torch.equal(joined["model"][name], weight.bfloat16().float())
    assert bool(joined["optimizers"]) == optimizers
    assert joined["position"]["step"] == 4 and torch.equal(joined["random"], content["random"])


def test_pieces_of_a_writer_that_was_killed_leave_the_checkpoint_before(tmp_path):
    content = trained(tmp_path)
    pieces.write(tmp_path / "out", content, False, piece=7000)
    (tmp_path / "out" / "checkpoint.9.000").write_bytes(b"half")
    assert pieces.join(tmp_path / "out", tmp_path / "joined.pt")["step"] == 4
    content["position"]["step"] = 9
    pieces.write(tmp_path / "out", content, False, piece=100_000_000)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoint.json", "checkpoint.9.000"}


def test_a_piece_that_is_not_whole_is_named(tmp_path):
    files = pieces.write(tmp_path / "out", trained(tmp_path), False, piece=7000)
    files[2].write_bytes(files[2].read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{files[2].name}: missing or not whole"):
        pieces.join(tmp_path / "out", tmp_path / "joined.pt")
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint\.json"):
        pieces.join(tmp_path, tmp_path / "joined.pt")


def test_the_schedule_ends_when_the_time_does(tmp_path):
    run = settings(tmp_path, total_bytes=1000 * 128, warmup_bytes=2 * 128, decay_bytes=500 * 128)
    trainer = gpu_run.TimedTrainer(run, tmp_path, gpu_run.World(0, 1, "cpu"))
    trainer.at.bytes_seen = 10 * 128
    trainer.finish_in(seconds=9, bytes_per_second=10 * 128)
    t = trainer.run.train
    assert (t.total_bytes, t.warmup_bytes, t.decay_bytes) == (100 * 128, 25, 50 * 128)


def test_the_rows_are_doubled_while_the_card_holds_them():
    tried = []

    def measure(rows):
        tried.append(rows)
        return None if rows > 64 else rows / 80

    assert gpu.largest(measure, 8) == 64 and tried == [8, 16, 32, 64]
    with pytest.raises(ValueError, match="8 rows do not fit"):
        gpu.largest(lambda rows: None, 8)


def test_a_scan_that_is_wrong_on_this_machine_is_not_used(monkeypatch):
    assert "within" in gpu.check_scan("cpu", time=80)
    monkeypatch.setattr(gpu, "scan", lambda k, u, state: scan.scan_loop(k, 1.001 * u, state))
    with pytest.raises(RuntimeError, match="differs from the plain loop by 1"):
        gpu.check_scan("cpu", time=80)


def test_compiled_blocks_give_what_plain_ones_give_or_are_left_alone():
    model = random_model(replace(TINY, layers=2), seed=1)
    tokens = torch.arange(64).reshape(1, 64)
    with torch.no_grad():
        plain, _ = model(tokens)
        said = gpu.compiled_blocks(model, "cpu")
        found, _ = model(tokens)
    assert (
        said.startswith("compiled blocks, within") == (model.block_forward is not type(model).__init__)
        or "plain" in said
    )
    torch.testing.assert_close(found, plain, rtol=0, atol=0.1)
