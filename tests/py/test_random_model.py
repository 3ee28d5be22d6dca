"""Random model files are files like any other: same tensors as an export, weights of the right statistics, a model that runs."""

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import gguf
import numpy as np
import pytest
import tokenizers

import convert
import make_random_model
from conftest import ROOT
from lm import arch
from lm.arch import bitmamba2, bitnet
from lm.arch.hgrnbit import Config
from lm.file import checksum, gguf_file, published, random_checkpoint, random_model
from lm.text import command

SMALL = Config(hidden=96, recurrent=320, intermediate=512, layers=2)
MAMBA = bitmamba2.Config(hidden=96, inner=320, heads=5, layers=2)
BITNET = bitnet.Config(hidden=96, intermediate=300, heads=6, kv_heads=2, head_width=20, layers=2)


def layout(path):
    return [(t.name, t.tensor_type, tuple(int(n) for n in t.shape)) for t in gguf.GGUFReader(path).tensors]


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, conv_kernel=0),
        MAMBA,
        replace(MAMBA, vocab_size=300),
        BITNET,
        replace(BITNET, tied=False, sub_norms=False),
    ],
    ids=lambda c: c.architecture,
)
def test_keys_and_tensors_are_those_of_an_exported_model(tmp_path, ternary_type, config):
    random_model.write(tmp_path / "random.gguf", config, ternary_type)
    card, pieces = gguf_file.Card("random", "Random weights."), random_model.tokenizer(config)
    gguf_file.write(tmp_path / "exported.gguf", arch.build(config), card, ternary_type, pieces)
    assert layout(tmp_path / "random.gguf") == layout(tmp_path / "exported.gguf")
    keys = [gguf_file.read(tmp_path / f"{name}.gguf")[0] for name in ("random", "exported")]
    assert len({key.pop(checksum.KEY) for key in keys}) == 2
    assert keys[0] == keys[1]


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("cols", [1, 200, 256, 700, 1024])
def test_each_code_is_a_third_of_the_weights_and_padding_is_zero(ternary_type, cols):
    packed = random_model.ternary_rows(np.random.default_rng(1), 300, cols, 0.25, ternary_type)
    values = gguf.quants.dequantize(packed, gguf_file.TERNARY_TYPES[ternary_type])
    assert not values[:, cols:].any()
    counts = Counter((values[:, :cols] * 4).ravel().tolist())
    assert set(counts) == {-1.0, 0.0, 1.0}
    for share in counts.values():
        assert share / (300 * cols) == pytest.approx(1 / 3, abs=0.015 + 0.1 / cols**0.5)


@pytest.mark.parametrize("kind", random_model.LLAMA_TYPES)
def test_a_llama_model_has_the_same_products_and_outputs_as_large_as_its_inputs(tmp_path, kind):
    config = Config(hidden=256, recurrent=256, intermediate=512, layers=1)
    random_model.write(tmp_path / "llama.gguf", config, kind, "llama")
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "llama.gguf").tensors}
    size = sum(t.n_elements for n, t in tensors.items() if n.startswith("blk.0.") and len(t.shape) == 2)
    assert size == 4 * 256 * 256 + 3 * 256 * 512
    for name, cols in (("blk.0.attn_q.weight", 256), ("blk.0.ffn_gate.weight", 256)):
        values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert values.shape[1] == cols
        assert np.sqrt((values.astype(float) ** 2).sum(axis=1)).mean() == pytest.approx(1, rel=0.12)


@pytest.mark.parametrize("config", [SMALL, MAMBA], ids=lambda c: c.architecture)
def test_the_engine_runs_it_and_its_predictions_are_neither_certain_nor_nothing(tmp_path, native, config):
    path = tmp_path / "model.gguf"
    random_model.write(path, config, "TQ1_0")
    text = ROOT / "tests" / "data" / "README.md"
    line = native("tern", "eval", "--model", path, "--text", text, "--json")
    bits = float(line.split('"bits_per_byte":')[1].split(",")[0])
    assert 8 < bits < 12  # a random guesser that is not sure of itself


def test_the_engine_reads_made_up_pieces(tmp_path, native):
    """Pairs of letters, the first ones first, and three of them before that: " et" is one of 9 + 81 + 729."""
    path = tmp_path / "model.gguf"
    random_model.write(path, replace(MAMBA, vocab_size=1000), "TQ1_0")
    (tmp_path / "text").write_bytes(b"\x00  etA~")
    tokens = native("tern", "tokenize", "--model", path, "--text", tmp_path / "text").split()
    assert tokens == ["0", "32", str(256 + 81 + 9 + 2), "65", "126"]


def test_a_seed_is_a_file(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        random_model.write(tmp_path / name, SMALL, "TQ2_0", seed=seed, name="model")
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c and len(a) == len(c)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected --preset, or --hidden and --layers"),
        (("--hidden", "64"), "expected --preset, or --hidden and --layers"),
        (("--hidden", "0", "--layers", "1"), "expected --preset"),
        (("--preset", "3.5M", "--layers", "-1"), "model.layers must be at least 1, got -1"),
        (("--preset", "3.5M", "--heads", "4"), "--heads: hgrnbit has no such size"),
        (("--preset", "3.5M", "--architecture", "bitmamba2"), "--preset 3.5M is of hgrnbit, not of bitmamba2"),
        (
            ("--preset", "BitMamba-2-1B", "--architecture", "llama"),
            "a llama model has the products of an hgrnbit model",
        ),
        (("--preset", "3.5M", "--vocab-size", "257"), "a vocabulary has 256 tokens, or 258 to 143569; found 257"),
        (("--preset", "3.5M", "--type", "Q4_0"), "the type must be one of TQ1_0, TQ2_0, found Q4_0"),
        (("--preset", "3.5M", "--architecture", "llama", "--hidden", "300"), "--hidden in multiples of 256, found 300"),
    ],
)
def test_options_that_do_not_make_a_model_are_explained(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["make_random_model.py", str(tmp_path / "model.gguf"), *words])
    assert command.status(make_random_model.main, "make_random_model") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "model.gguf").exists()


def test_the_command_writes_any_shape(tmp_path):
    script = ROOT / "scripts" / "make_random_model.py"
    words = ["--hidden", "64", "--layers", "1", "--recurrent", "32", "--conv-kernel", "0"]
    done = subprocess.run(
        [sys.executable, script, tmp_path / "m.gguf", *words], capture_output=True, encoding="utf-8", cwd="/"
    )
    assert done.returncode == 0, done.stderr
    words = ["--hidden", "64", "--layers", "1", "--architecture", "bitmamba2", "--inner", "96", "--heads", "3"]
    subprocess.run([sys.executable, script, tmp_path / "b.gguf", *words], check=True, cwd="/")
    keys = gguf_file.read(tmp_path / "b.gguf")[0]
    assert [keys[f"bitmamba2.{key}"] for key in ("embedding_length", "inner_length", "head_count")] == [64, 96, 3]
    keys = gguf_file.read(tmp_path / "m.gguf")[0]
    assert [keys[f"hgrnbit.{key}"] for key in ("embedding_length", "recurrent_length", "feed_forward_length")] == [
        64,
        32,
        256,
    ]


def test_a_llama_model_has_as_many_pieces_as_are_asked_for(tmp_path):
    config = Config(hidden=256, recurrent=256, intermediate=512, layers=1, vocab_size=1000)
    random_model.write(tmp_path / "llama.gguf", config, "TQ2_0", "llama")
    reader = gguf.GGUFReader(tmp_path / "llama.gguf")
    assert [tuple(t.shape) for t in reader.tensors if t.name in ("token_embd.weight", "output.weight")] == [
        (256, 1000)
    ] * 2
    assert len(reader.fields["tokenizer.ggml.tokens"].data) == 1000


# ---- checkpoints in the published format


@pytest.mark.parametrize(
    ("preset", "style", "sizes"),
    [
        ("MMfreeLM-370M", "llama", {"hidden": 64, "layers": 2, "vocab_size": 1000}),
        ("BitMamba-2-255M", "gpt2", {"hidden": 64, "inner": 128, "heads": 4, "layers": 2, "vocab_size": 1000}),
    ],
)
@pytest.mark.parametrize("shard", [random_checkpoint.SHARD, 100_000])
def test_a_random_checkpoint_converts_runs_and_knows_nothing(
    tmp_path, native, monkeypatch, preset, style, sizes, shard
):
    monkeypatch.setattr(random_checkpoint, "SHARD", shard)
    monkeypatch.setattr(random_checkpoint, "CHUNK", 1000)
    source = random_checkpoint.write(tmp_path / "published", preset, **sizes)
    model = tmp_path / "model.gguf"
    words = [source, "--tokenizer", tmp_path / "published", "--license", "MIT", "--out", model, "--quiet"]
    convert.main([str(word) for word in words])
    shards = len(list((tmp_path / "published").glob("*.safetensors")))
    assert shards == (0 if style == "gpt2" else 1 if shard > 100_000 else 7)
    text = ROOT / "tests" / "data" / "README.md"
    line = native("tern", "eval", "--model", model, "--text", text, "--json")
    tokens, size, bits = (json.loads(line)[key] for key in ("tokens", "bytes", "bits_per_byte"))
    assert tokens < size
    assert 9 < bits * size / tokens < 14  # of a token; log2 of 1000 is 10, and the guesser is not sure of itself


def test_the_published_presets_have_the_published_numbers_of_weights():
    sizes = {"MMfreeLM-370M": 370e6, "MMfreeLM-1.3B": 1.3e9, "MMfreeLM-2.7B": 2.7e9, "BitMamba-2-255M": 255e6}
    for name, size in (sizes | {"BitMamba-2-1B": 1e9}).items():
        config = random_checkpoint.PRESETS[name]
        kind = (
            published.of_bitmamba_config(config)
            if name.startswith("Bit")
            else published.of_config_json(random_checkpoint.config_json(config, random_checkpoint.PIECES))
        )
        assert sum(map(math.prod, random_checkpoint.shapes_of(kind).values())) == pytest.approx(size, rel=0.06)


@pytest.mark.parametrize(("style", "pieces"), [("llama", 32000), ("gpt2", 50257), ("gpt2", 128256)])
def test_a_made_up_tokenizer_has_pieces_and_merges_as_published_ones(style, pieces):
    text = random_model.tokenizer_json(pieces, style)
    tokenizer = tokenizers.Tokenizer.from_str(text)
    assert tokenizer.get_vocab_size() == pieces
    assert len(json.loads(text)["model"]["merges"]) == pytest.approx(2 * pieces, rel=0.05)
    said = "the cat — “é漢🎉”\n"
    assert len(tokenizer.encode(said).ids) < len(said.encode())
