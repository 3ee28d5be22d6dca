"""Integers cost nothing: engine and float32 PyTorch predict held-out text equally well."""

import json
import os
from pathlib import Path

import pytest
import torch

import make_golden
from conftest import ROOT
from lm.fast.cpu_kernels import accelerate
from lm.file import gguf_file
from lm.measure.score import score
from lm.text.encoding import BOS, encode
from publish import count_parameters

LIMIT = 0.001  # relative difference in bits per byte
LONG_TEXT = os.environ.get("TERN_LONG_TEXT")  # a held-out file, to score 200 KB instead of the committed 50 KB


def models():
    return [ROOT / "tests" / "golden" / f"{name}.gguf" for name in make_golden.MODELS] + make_golden.shipped_models()


@pytest.mark.parametrize("path", models(), ids=lambda path: path.stem)
def test_bits_per_byte_of_the_engine_and_of_pytorch_agree_within_0_1_percent(path, stories, native, tmp_path):
    text = Path(LONG_TEXT).read_bytes()[:200_000] if LONG_TEXT else stories
    # Random models predict nothing, long or short; this is more than the context of some.
    part = text if path.parent.name == "models" else text[:1_500]
    (tmp_path / "text.txt").write_bytes(part)
    engine = json.loads(
        native("tern", "eval", "--model", path, "--text", tmp_path / "text.txt", "--samples", 0, "--json")
    )
    model = gguf_file.load(path)
    accelerate(model)
    pytorch = score(model, encode(part))
    print(f"\n{path.stem}: engine {engine['bits_per_byte']:.5f}, PyTorch {pytorch['bits_per_byte']:.5f} bits per byte")
    assert engine["bytes"] == pytorch["bytes"]
    assert engine["bits_per_byte"] == pytest.approx(pytorch["bits_per_byte"], rel=LIMIT)
    assert engine["perplexity"] == pytest.approx(2 ** engine["bits_per_byte"], rel=1e-4)
    assert engine["top1"] == pytest.approx(pytorch["top1"], abs=0.01)
    assert engine["top5"] == pytest.approx(pytorch["top5"], abs=0.01)


HIERARCHICAL = [
    path for path in make_golden.shipped_models() if gguf_file.read(path)[0]["general.architecture"] == "hnetbit"
]


@pytest.mark.parametrize("path", HIERARCHICAL, ids=lambda path: path.stem)
def test_chunks_of_the_engine_and_of_pytorch_begin_at_the_same_bytes(path, stories, native, tmp_path):
    tokens = encode(stories[:20_000])  # on a short text one byte more or less would decide
    (tmp_path / "prompt.bin").write_bytes(tokens.tobytes())
    engine = json.loads(native("tern_golden", "--model", path, "--prompt-file", tmp_path / "prompt.bin"))
    model = gguf_file.load(path)
    accelerate(model)
    with torch.no_grad():
        _, _, notes = model.trace(torch.tensor([[BOS, *tokens.tolist()]]))
    found, expected = bytes.fromhex(engine["boundaries"]), make_golden.masks_of(notes, len(tokens) + 1)
    equal = sum(a == b for a, b in zip(found, expected, strict=True)) / len(found)
    print(f"\n{path.stem}: chunks begin alike at {equal:.3%} of {len(found)} positions")
    assert 0.1 < sum(mask & 1 for mask in found) / len(found) < 0.5
    assert equal >= 0.999


TRICKY = b"one<|endoftext|>\n<|endoftext|>\n<|endoftext|> \ntwo\r\n<|endoftext|>\r\n\n<|endoftext|>"


def test_engine_and_pytorch_read_the_same_bytes_from_a_text_with_separators_in_odd_places(native, tmp_path):
    model = ROOT / "tests" / "golden" / "tiny_gate.gguf"
    (tmp_path / "text.txt").write_bytes(TRICKY)
    engine = json.loads(native("tern", "eval", "--model", model, "--text", tmp_path / "text.txt", "--json"))
    pytorch = score(gguf_file.load(model), encode(TRICKY))
    # Two CR before LF go; three lines end a document, each one byte, and the last of them has no line end.
    assert engine["bytes"] == pytorch["bytes"] == len(TRICKY) - 2 - 3 * (len("<|endoftext|>\n") - 1) + 1
    assert engine["bits_per_byte"] == pytest.approx(pytorch["bits_per_byte"], rel=0.01)


def test_parameters_are_counted_alike_by_the_manifest_and_by_the_engine(native):
    for path in models():
        counted = json.loads(native("tern", "inspect", "--model", path, "--json"))["parameters"]
        assert counted == count_parameters(gguf_file.load(path))
