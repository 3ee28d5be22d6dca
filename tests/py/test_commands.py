"""The command lines: what they write, and what they say when something is wrong."""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

import publish
from conftest import ROOT
from lm.arch.hgrnbit import Config
from lm.arch.ternary import BitLinear
from lm.file import checkpoint, gguf_file
from lm.text.encoding import BOS, EOS
from make_golden import random_model

CONFIG = Config(hidden=32, recurrent=32, intermediate=48, layers=1, conv_kernel=2, decay_span=8.0)


def command(name, *arguments):
    """-> (exit status, output, error output) of scripts/NAME.py, started from another folder."""
    words = [sys.executable, ROOT / "scripts" / f"{name}.py", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/")
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint as the training loop writes it."""
    path = tmp_path_factory.mktemp("run") / "last.pt"
    model = random_model(CONFIG, seed=6)
    checkpoint.save(path, {"config": {"model": asdict(CONFIG)}, "model": model.state_dict(), "bytes_seen": 12345})
    return path


def test_export_writes_the_checkpoints_model_and_how_much_text_it_saw(saved, tmp_path):
    out = tmp_path / "fox.gguf"
    status, text, fault = command("export", "--checkpoint", saved, "--out", out, "--training-text", "Fables")
    assert (status, fault) == (0, "")
    assert "12,345 bytes" in text
    keys, _ = gguf_file.read(out)
    assert keys["general.name"] == "fox"
    assert keys["general.license"] == "MIT"
    assert keys["general.training_text"] == "Fables"
    assert keys["general.training_bytes"] == 12345


def test_a_document_end_that_is_fed_means_what_it_meant_in_training(saved, tmp_path):
    command("export", "--checkpoint", saved, "--out", tmp_path / "m.gguf")
    _, tensors = gguf_file.read(tmp_path / "m.gguf")
    assert (tensors["token_embd.weight"][EOS] == tensors["token_embd.weight"][BOS]).all()
    assert tensors["token_embd.scale"][EOS] == tensors["token_embd.scale"][BOS]


def test_export_without_a_checkpoint_says_so_and_writes_nothing(tmp_path):
    status, _, fault = command("export", "--checkpoint", tmp_path / "no.pt", "--out", tmp_path / "m.gguf")
    assert status == 1
    assert "no such checkpoint" in fault
    assert not list(tmp_path.iterdir())


def test_export_of_something_that_is_no_checkpoint_says_what_is_missing(tmp_path):
    torch.save({"weights": 1}, tmp_path / "x.pt")
    status, _, fault = command("export", "--checkpoint", tmp_path / "x.pt", "--out", tmp_path / "m.gguf")
    assert status == 1
    assert "'config'" in fault


def test_evaluate_reports_the_score_of_a_checkpoint(saved, tmp_path, stories):
    (tmp_path / "text.txt").write_bytes(stories)
    arguments = ("--checkpoint", saved, "--text", tmp_path / "text.txt", "--bytes", 500, "--json")
    status, text, fault = command("evaluate", *arguments)
    assert (status, fault) == (0, "")
    report = json.loads(text)
    assert report["bytes"] == 500
    assert 7 < report["bits_per_byte"] < 12, "random weights know nothing"


def test_prepare_repairs_holds_out_and_leaves_out(tmp_path):
    (tmp_path / "in").mkdir()
    stories = [f"Story {i}. â€œHiâ€" for i in range(40)]
    text = "".join(f"{story}\n<|endoftext|>\n" for story in [*stories, stories[0]])
    (tmp_path / "in" / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "old.txt").write_text("Story 7. “Hi”", encoding="utf-8")
    words = ("--out", tmp_path / "new" / "train.bin", "--valid", tmp_path / "new" / "valid.bin")
    status, said, fault = command(
        "prepare_data", tmp_path / "in", *words, "--valid-share", 0.3, "--without", tmp_path / "old.txt"
    )
    assert (status, fault) == (0, "")
    assert "2 duplicates left out, 41 lines repaired" in said
    train, valid = ((tmp_path / "new" / f"{name}.bin").read_bytes().split(b"\xff") for name in ("train", "valid"))
    assert train.pop() == valid.pop() == b""
    wanted = {f"Story {i}. “Hi”\n".encode() for i in range(40) if i != 7}
    assert set(train) | set(valid) == wanted and len(train) + len(valid) == 39
    assert 4 <= len(valid) <= 20


def test_prepare_names_what_it_cannot_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.txt").write_bytes(b"ok\nnot ok \xe9\n")
    for source, wanted in (
        ("empty", "no .txt or .txt.xz file in"),
        ("bad.txt", "bad.txt is not UTF-8 text: byte 10 is 0xe9"),
    ):
        status, _, fault = command("prepare_data", tmp_path / source, "--out", tmp_path / "out.bin")
        assert status == 1
        assert fault.startswith("prepare_data: ") and wanted in fault
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "empty"]


@pytest.mark.parametrize(
    "arguments", [(), ("--out", "x"), ("a.txt",), ("a.txt", "--out", "x", "--download", "tinystories")]
)
def test_prepare_with_unclear_arguments_explains_itself(arguments):
    status, _, fault = command("prepare_data", *arguments)
    assert status == 2
    assert "give text files and --out, or --download" in fault


def test_baselines_measure_the_stream_the_model_predicts(tmp_path):
    (tmp_path / "text.txt").write_bytes(b"ab" * 500 + b"\n<|endoftext|>\n")
    status, text, fault = command("baselines", tmp_path / "text.txt", "--json")
    assert (status, fault) == (0, "")
    report = json.loads(text)
    assert report["bytes"] == 1002
    assert 0 < report["xz"] < 2 and 0 < report["ppmd"] < 2


def test_publishing_writes_what_the_file_is_and_keeps_one_default(saved, tmp_path, stories):
    (tmp_path / "text.txt").write_bytes(stories[:2000])
    (tmp_path / "README.md").write_text(
        f"Before.\n{publish.TABLE_BEGIN}old\n{publish.TABLE_END}After.\n", encoding="utf-8"
    )
    for name in ("first", "second"):
        model = tmp_path / f"{name}.gguf"
        command("export", "--checkpoint", saved, "--out", model, "--name", name, "--training-text", "Fables")
        status, _, fault = command("publish", model, "--text", tmp_path / "text.txt", "--default")
        assert status == 0, fault
    entries = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["models"]
    assert [(e["name"], e["default"]) for e in entries] == [("second", True), ("first", False)]
    content = (tmp_path / "second.gguf").read_bytes()
    second = entries[0]
    assert (second["bytes"], second["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert second["parameters"] == sum(p.numel() for p in random_model(CONFIG, 0).parameters())
    assert (second["trained_on"], second["bytes_seen"], second["architecture"]) == ("Fables", 12345, "hgrnbit")
    assert second["bits_per_byte"] > 1
    matrices = [m.weight.numel() for m in random_model(CONFIG, 0).modules() if isinstance(m, BitLinear)]
    assert second["products_per_byte"] == sum(matrices)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("Before.") and card.endswith("After.\n") and "old" not in card
    assert "`second.gguf` (default) |" in card and "`first.gguf` |" in card


def test_the_shipped_manifest_describes_the_shipped_files():
    manifest = json.loads((ROOT / "models" / "manifest.json").read_text(encoding="utf-8"))
    assert publish.TABLE_BEGIN + publish.table(manifest) + publish.TABLE_END in (ROOT / "models/README.md").read_text(
        encoding="utf-8"
    )
    assert {entry["file"] for entry in manifest["models"]} == {path.name for path in (ROOT / "models").glob("*.gguf")}
    for entry in manifest["models"]:
        content = (ROOT / "models" / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        keys, _ = gguf_file.read(ROOT / "models" / entry["file"])
        assert (entry["name"], entry["license"]) == (keys["general.name"], keys["general.license"])
