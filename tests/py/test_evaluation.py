"""PyTorch and the engine measure texts and samples by one definition, and several models at once in one table."""

import json
import lzma
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch

import evaluate
import make_golden
from conftest import NATIVE, ROOT
from lm.file import checkpoint, gguf_file
from lm.file.models import load_any
from lm.measure import samples
from lm.measure.evaluation import comparison, sheet
from lm.measure.score import score
from lm.text.encoding import BOS, encode
from make_golden import random_model

TINY = ROOT / "tests" / "golden" / "tiny_gate.gguf"


def run(*arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, ROOT / "scripts" / "evaluate.py", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/")


@pytest.fixture
def saved(tmp_path):
    config = make_golden.Config(hidden=32, recurrent=32, intermediate=48, layers=1, conv_kernel=2)
    content = {
        "config": {"model": asdict(config)},
        "model": random_model(config, 6).state_dict(),
        "bytes_seen": 2_500_000,
    }
    (tmp_path / "run").mkdir()
    checkpoint.save(tmp_path / "run" / "last.pt", content)
    return tmp_path / "run" / "last.pt"


@pytest.fixture
def text(tmp_path, stories):
    (tmp_path / "text.txt").write_bytes(stories[:300])
    return tmp_path / "text.txt"


# Repetition inside and across documents, every kind of white space, a document without words, characters of two to four
# bytes, one cut off at a document's end (allowed), one cut off in the middle and an encoded surrogate (not allowed).
SAMPLES = (
    b"the cat sat on the mat the cat sat on the mat\n<|endoftext|>\n"
    b"the cat\tsat\x0bon\x0cthe\rrug   the cat sat on\x00it\n<|endoftext|>\n"
    b" \n<|endoftext|>\n<|endoftext|>\n"
    + "a é 世 🦉 b".encode()
    + b"\xff"
    + "snow ☃".encode()[:-1]
    + b"\xff\xe4\xb8 x y z w v\xff\xed\xa0\x80\xff\xf0\x9f\xa6\xffone two three four"
)
MEASURES = ("samples", "utf8_valid", "distinct_words", "distinct_bytes", "repetition")


def test_engine_and_pytorch_measure_given_samples_alike(native, tmp_path, text):
    (tmp_path / "samples").write_bytes(SAMPLES)
    arguments = ("--text", text, "--sample-file", tmp_path / "samples", "--json")
    engine = json.loads(native("tern", "eval", "--model", TINY, *arguments))
    pytorch = json.loads(run("--checkpoint", TINY, *arguments).stdout)
    assert engine["samples"] == 9
    assert engine["utf8_valid"] == pytest.approx(7 / 9, abs=1e-6), (
        "a character cut off by the end is allowed, two other faults are not"
    )
    for key in MEASURES:
        assert engine[key] == pytest.approx(pytorch[key], abs=1e-6), key


def test_the_measures_of_a_small_text_are_what_counting_by_hand_gives():
    found = samples.measure([b"a b a b a b", b"a b"])  # 8 words; 4-grams: abab, baba, abab
    assert found["distinct_words"] == [2 / 8, 2 / 6, 2 / 4, 2 / 3]
    assert found["repetition"] == 1 / 3
    assert found["distinct_bytes"][:2] == [3 / 14, 4 / 12]  # a, b, space; "a ", " b", "b ", " a"
    assert samples.measure([b"a b c d", b"a b c d"])["repetition"] == 0, "repeated in another sample is no repetition"
    assert samples.measure([]) == {"samples": 0}


def test_both_report_the_same_numbers_under_the_same_names(native, text):
    arguments = ("--text", text, "--samples", "1", "--json")
    engine = json.loads(native("tern", "eval", "--model", TINY, *arguments))
    pytorch = json.loads(run("--checkpoint", TINY, *arguments).stdout)
    assert set(engine) - set(pytorch) == {"bits_q32"}
    assert set(pytorch) - set(engine) == {"model", "computed_by", "bytes_seen"}
    assert engine["bits_per_byte"] == pytest.approx(pytorch["bits_per_byte"], rel=0.001)
    assert engine["top1"] == pytest.approx(pytorch["top1"], abs=0.01)
    assert engine["top5"] == pytest.approx(pytorch["top5"], abs=0.01)


def test_both_print_the_same_lines(native, text):
    printed = native("tern", "eval", "--model", TINY, "--text", text, "--samples", 1)
    report = score(gguf_file.load(TINY), encode(text.read_bytes())) | samples.measure([b"a b"])
    assert [line[:22].strip() for line in printed.splitlines()] == [x[:22].strip() for x in sheet(report).splitlines()]


def test_samples_are_the_same_every_time_end_at_a_document_end_and_never_hold_bos():
    model = gguf_file.load(TINY)
    first = samples.generate(model, [b"", b"Once"], length=8)
    assert first == samples.generate(model, [b"", b"Once"], length=8)
    assert samples.generate(model, [b""], length=8) == first[:1], "one more sample in the batch changes nothing"

    class Ends(torch.nn.Module):  # after "ab" the text ends; BOS is always the likeliest
        position = 0

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def initial_states(self, batch):
            return 0

        def step(self, token, position):
            logits = torch.zeros(len(token), 256)
            logits[:, BOS] = 2000
            logits[:, [97, 98, 255][min(position, 2)]] = 1000
            return logits, position + 1

    assert samples.generate(Ends(), [b""], length=8) == [b"ab"]
    assert samples.generate(Ends(), [b"x"], length=1) == [b"b"]


def test_samples_follow_the_models_distribution():
    """What batched stepping draws is what the model predicts: greedy by temperature against a plain forward pass."""
    model = gguf_file.load(TINY)
    drawn = samples.generate(model, [b"On", b"Once"], length=6, temperature=1e-4)
    for prompt, sample in zip((b"On", b"Once"), drawn):
        logits, _ = model(torch.tensor([[BOS, *prompt, *sample]]))
        logits[:, :, BOS] = -torch.inf
        assert bytes(logits[0, len(prompt) : -1].argmax(-1).tolist()) == sample


def test_several_models_make_one_table_with_the_best_first(saved, text, tmp_path):
    arguments = ("--checkpoint", saved, TINY, "--text", text, "--samples", 1, "--bytes", 200, "--engine")
    done = run(*arguments, "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert rows[0][:2] == ["| model", "by"] and len(rows) == 5
    scores = [float(row[3]) for row in rows[2:]]
    assert scores == sorted(scores)
    assert {(row[0], row[1], row[2]) for row in rows[2:]} == {
        ("| `run/last.pt`", "PyTorch", "2.5 MB"),
        ("| `golden/tiny_gate.gguf`", "PyTorch", "0.0 MB"),
        ("| `golden/tiny_gate.gguf`", "engine", "0.0 MB"),
    }
    models = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["models"]
    assert [m["computed_by"] for m in models] == ["PyTorch", "PyTorch", "engine"]
    assert comparison(models) == done.stdout.strip()


def test_a_text_gives_the_engine_the_same_numbers_plain_packed_and_prepared(tmp_path, stories):
    plain = stories[:300] + b"\n<|endoftext|>\nMore.\n"
    files = {"text.txt": plain, "text.txt.xz": lzma.compress(plain), "text.bin": encode(plain).tobytes()}
    found = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        words = ["--checkpoint", TINY, "--text", tmp_path / name, "--samples", 0, "--engine", "--bytes", 310]
        found.append([report["bits_per_byte"] for report in evaluate.run(evaluate.arguments_of([*map(str, words)]))])
    assert found[0] == found[1] == found[2]
    said = subprocess.run(
        [NATIVE / "tern", "eval", "--model", TINY, "--text", tmp_path / "text.txt", "--max-bytes", "310", "--json"],
        capture_output=True,
    )
    assert json.loads(said.stdout)["bits_per_byte"] == found[0][1]


def test_what_cannot_be_evaluated_is_named(tmp_path, text, saved):
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    (tmp_path / "latin1.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "empty.txt").write_bytes(b"")
    for checkpoint_file, text_file, named, said in (
        ("none.pt", text, "none.pt", "no such file"),
        ("broken.gguf", text, "broken.gguf", "expected a checkpoint"),
        ("broken.pt", text, "broken.pt", "a checkpoint of scripts/train.py"),
        (saved, tmp_path / "none.txt", "none.txt", "no such"),
        (saved, tmp_path / "latin1.txt", "latin1.txt", "not UTF-8 at byte 0"),
        (saved, tmp_path / "empty.txt", "empty.txt", "empty"),
    ):
        with pytest.raises((OSError, ValueError)) as fault:
            words = ["--checkpoint", str(tmp_path / checkpoint_file), "--text", str(text_file), "--samples", "0"]
            evaluate.run(evaluate.arguments_of(words))
        assert named in str(fault.value) and said in str(fault.value)


def test_a_checkpoint_of_another_architecture_is_an_error_that_names_it(tmp_path):
    torch.save({"config": {"model": {"heads": 8}}, "model": {}, "bytes_seen": 0}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt.*model\.heads"):
        load_any(tmp_path / "other.pt")


def test_the_engine_refuses_a_text_that_is_not_utf8(tmp_path):
    (tmp_path / "text").write_bytes(b"ab\xff")
    words = [NATIVE / "tern", "eval", "--model", TINY, "--text", tmp_path / "text"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "not UTF-8 at byte 2" in done.stderr


def test_the_score_does_not_depend_on_how_the_text_is_cut(stories):
    model, tokens = gguf_file.load(TINY), encode(stories[:200])
    whole, parts = score(model, tokens), score(model, tokens, part=64)
    assert parts["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=1e-3)
    with pytest.raises(ValueError, match="empty"):
        score(model, np.zeros(0, np.uint8))
