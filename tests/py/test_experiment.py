"""One command from a text to a report; what is missing is said before anything is trained."""

import json
import subprocess
import sys

import pytest

import tiny_run
from conftest import NATIVE, ROOT
from lm.file import gguf_file
from lm.measure import evaluation
from lm.text.encoding import encode
from run_experiment import count_documents

CONFIG = """
[model]
hidden = 32
recurrent = 32
intermediate = 48
layers = 1
conv_kernel = 2
[data]
train = ["{folder}/train.txt"]
valid = "{folder}/valid.txt"
[train]
total_bytes = 2048
batch = 4
length = 64
warmup_bytes = 256
decay_bytes = 1024
valid_bytes = 256
valid_every = 4
device = "cpu"
seed = {seed}
"""


def run(folder, *arguments):
    """-> (exit status, output, error output)"""
    command = [sys.executable, ROOT / "scripts" / "run_experiment.py", folder / "tiny.toml", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=folder)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path, stories):
    (tmp_path / "tiny.toml").write_text(CONFIG.format(folder=tmp_path, seed=tiny_run.SEED), encoding="utf-8")
    (tmp_path / "train.txt").write_bytes(stories)
    (tmp_path / "valid.txt").write_bytes(stories[:1500])
    return tmp_path


@pytest.mark.trains
def test_an_experiment_ends_in_a_model_and_a_report_and_can_be_repeated(folder, hold):
    assert NATIVE.resolve() == evaluation.TERN.parent.resolve(), (
        "the engine that the command finds is the one under test"
    )
    status, said, fault = run(folder, "--samples", 1, "--training-text", "Stories")
    assert status == 0, fault
    out = folder / "runs" / "tiny"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["model"]["hidden"] == 32
    assert [text["bytes"] for text in report["data"]] == [len(encode((folder / n).read_bytes())) for n in TEXTS]
    assert [r["computed_by"] for r in report["evaluation"]] == ["PyTorch", "PyTorch", "engine"]
    assert len({r["bytes"] for r in report["evaluation"]}) == 1, "all three read the same bytes"
    hold("of the bits per byte apart", abs(report["fixed_against_float"]), below=0.01)
    keys, _ = gguf_file.read(out / "tiny.gguf")
    assert (keys["general.training_text"], report["model"]["bytes"]) == ("Stories", (out / "tiny.gguf").stat().st_size)
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "| `tiny/tiny.gguf` | engine |" in text and "Integers against float" in text
    assert "Where integers differ from float" in text and report["deviation"]["operations"]
    assert (out / "curves.html").exists()
    assert str(out.relative_to(folder) / "report.md") in said


TEXTS = ("train.txt", "valid.txt")


def edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("break_it", "wanted"),
    [
        (lambda f: edit(f / "tiny.toml", "layers", "leyers"), "tiny.toml: model.leyers is not"),
        (lambda f: (f / "valid.txt").unlink(), "valid.txt: no such text file"),
        (lambda f: (f / "train.txt").write_bytes(b"abc\xfe"), "train.txt: not UTF-8 at byte 3"),
    ],
    ids=["misspelt key", "no text", "not UTF-8"],
)
def test_what_is_wrong_is_said_before_anything_is_trained(folder, break_it, wanted):
    break_it(folder)
    status, _, fault = run(folder, "--no-engine")
    assert status == 1
    assert fault.startswith("run_experiment: ") and wanted in fault
    assert not (folder / "runs").exists()


def test_documents_are_counted_by_their_ends():
    assert count_documents(encode(b"a\n<|endoftext|>\nb\n<|endoftext|>\n"), piece=3) == 2
    assert count_documents(encode(b"a\n<|endoftext|>\nb")) == 2
