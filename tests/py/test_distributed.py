"""Two processes reach the losses of one with the same global batch, and carry on where either has stopped."""

import os
import socket
import subprocess
import sys

import pytest
import torch

import tiny_run
from conftest import ROOT
from lm.file import checkpoint
from lm.train.distributed import World, choose_device
from tiny_run import apart, losses, settings

THREADS = 1  # of each process

CONFIG = """
[model]
hidden = 24
recurrent = 24
intermediate = 32
layers = 1
conv_kernel = 2
[data]
train = ["{text}"]
valid = "{text}"
[train]
total_bytes = {total_bytes}
batch = 8
length = 16
accumulate = {accumulate}
lr = 0.02
warmup_bytes = 128
decay_bytes = 0
valid_bytes = 256
save_every = 100
device = "cpu"
seed = {seed}
"""


def train(folder, processes, steps, *arguments, accumulate=1):
    """scripts/train.py, in several processes with the variables that torchrun sets -> what they printed."""
    text = CONFIG.format(
        text=folder / "alphabet.txt", total_bytes=steps * 128, accumulate=accumulate, seed=tiny_run.SEED
    )
    (folder / "run.toml").write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), str(folder / "run.toml"), *arguments]
    common = dict(os.environ)
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        common |= {"WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=300) for process in started]  # one that waits for ever fails the test
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, said):
        assert process.returncode == 0, errors[-2000:]
    return [out for out, _ in said]


@pytest.mark.trains
def test_two_processes_train_as_one_and_one_can_go_on_from_there(tmp_path, hold):
    settings(tmp_path)  # writes the text
    train(tmp_path, 1, 6, "--out", str(tmp_path / "one"))
    first, second = train(tmp_path, 2, 4, "--out", str(tmp_path / "two"), accumulate=2)
    assert "processes 2" in first
    ours = [line for line in second.splitlines() if not line.startswith("[Gloo]")]  # PyTorch 2.9 reports connections
    assert ours == [], "only one of them speaks"
    saved = checkpoint.load(tmp_path / "two" / "last.pt")
    assert saved["position"]["states"][0][0].shape[0] == 8, "the states of both processes' rows are saved"
    train(tmp_path, 1, 6, "--out", str(tmp_path / "two"), "--resume")
    one = [float(bits) for bits in losses(tmp_path / "one").values()]
    assert len(one) == 6
    # The mean of two gradients is the same sum in another order: differences of 1e-7 that steps let grow.
    hold("bits apart", apart(tmp_path / "one", tmp_path / "two"), below=0.005)
    hold("bits learned", one[0] - one[5], above=0.3)


def test_each_process_has_its_own_rows_of_a_batch():
    worlds = [World(rank, 3, "cpu") for rank in range(3)]
    assert [world.share(12) for world in worlds] == [(0, 4), (4, 4), (8, 4)]
    assert [world.writes for world in worlds] == [True, False, False]
    with pytest.raises(ValueError, match=r"train\.batch must be a multiple of the 3 processes, got 8"):
        worlds[0].share(8)


def test_a_process_on_its_own_needs_no_other():
    alone = World.join("cpu")
    module = torch.nn.Linear(2, 2)
    assert alone.wrap(module, False) is module
    assert float(alone.mean(torch.tensor(3.0))) == 3
    alone.leave(done=True)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(ValueError, match=r"train\.device"):
        choose_device("cuda")
