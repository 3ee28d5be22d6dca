"""Checkpoints of the public HNet-bit code: what is read computes the same, what cannot be read is named."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import ROOT
from lm.arch.hnetbit import Config
from lm.arch.ternary import weight_codes
from lm.file import gguf_file
from lm.file.public_hnet import model_of, read_weights, shift_of
from make_golden import random_model

UNTRAINED = {"ratio_weight": 0.03, "lr_multiplier": (1.0, 1.0), "decay_span": (0.0, 0.0), "target": (2.5,)}
ONE = Config(
    hidden=(24, 40), recurrent=(48, 80), intermediate=(56, 64), encoder=(2,), layers=3, router=(24,), **UNTRAINED
)
TWO = Config(
    hidden=(24, 40, 40),
    recurrent=(24, 40, 40),
    intermediate=(32, 48, 56),
    encoder=(1, 2),
    decoder=(2, 1),
    layers=1,
    router=(24, 40),
    target=(2.5, 2.5),
    lr_multiplier=(1.0, 1.0, 1.0),
    decay_span=(0.0, 0.0, 0.0),
    conv_kernel=0,
)


def public_names(model):
    """Our weights under the names of their nested modules."""
    ours, theirs = model.state_dict(), {}

    def move(prefix, to):
        for name in [n for n in ours if n.startswith(prefix)]:
            theirs[to + name.removeprefix(prefix).replace("attn.conv.", "attn.h_conv1d.")] = ours.pop(name)

    at = "backbone."
    for s in range(len(model.stages)):
        move(f"stages.{s}.encoder.", f"{at}encoder.")
        move(f"stages.{s}.decoder.", f"{at}decoder.")
        move(f"stages.{s}.router_q.", f"{at}routing_module.q_proj_layer.")
        move(f"stages.{s}.router_k.", f"{at}routing_module.k_proj_layer.")
        move(f"stages.{s}.residual.", f"{at}residual_proj.")
        at += "main_network."
        pad = ours.pop(f"stages.{s}.pad")
        if pad.numel():
            theirs[f"{at}pad_dimension"] = pad
    move("main.", f"{at}main_network.")
    return theirs | ours


@pytest.fixture(params=[ONE, TWO], ids=["one-stage", "two-stages"])
def model(request):
    return random_model(request.param, seed=8)


@pytest.fixture
def tokens():
    return torch.randint(0, 256, (2, 30), generator=torch.Generator().manual_seed(4))


def test_the_synthetic_checkpoint_has_the_published_names():
    names = public_names(random_model(TWO, seed=0))
    assert {
        "embeddings.weight",
        "lm_head.weight",
        "lm_head.norm.weight",
        "backbone.encoder.layers.0.attn.i_proj.weight",
        "backbone.encoder.layers.0.attn.g_norm.weight",
        "backbone.encoder.norm.weight",
        "backbone.routing_module.q_proj_layer.weight",
        "backbone.residual_proj.bias",
        "backbone.main_network.pad_dimension",
        "backbone.main_network.decoder.layers.0.mlp.gate_proj.norm.weight",
        "backbone.main_network.routing_module.k_proj_layer.weight",
        "backbone.main_network.main_network.main_network.layers.0.mlp_norm.weight",
        "backbone.main_network.main_network.main_network.norm.weight",
    } <= set(names)
    assert "backbone.main_network.main_network.pad_dimension" not in names, "levels of one width have no pad"


@torch.no_grad()
def test_an_imported_model_computes_what_the_checkpoint_does(model, tokens):
    imported = model_of(public_names(model))
    for name, value in model.state_dict().items():
        assert torch.equal(imported.state_dict()[name], value), name
    assert imported.config == model.config
    torch.testing.assert_close(imported(tokens)[0], model(tokens)[0])


def safetensors(weights, path, dtype, code):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, value in weights.items():
        raw = value.to(dtype).contiguous().view(torch.uint8 if value.numel() == 0 else torch.int16).numpy().tobytes()
        header[name] = {"dtype": code, "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_a_checkpoint_is_read_from_every_kind_of_file(tmp_path):
    weights = public_names(random_model(ONE, seed=8))
    half = {name: value.to(torch.bfloat16) for name, value in weights.items()}
    safetensors(weights, tmp_path / "model.safetensors", torch.bfloat16, "BF16")
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in half.items()}, "epoch": 3}, tmp_path / "last.pt")
    torch.save({f"_orig_mod.module.{k}": v for k, v in half.items()}, tmp_path / "compiled.bin")
    for path in (tmp_path, tmp_path / "model.safetensors", tmp_path / "last.pt", tmp_path / "compiled.bin"):
        found = read_weights(path)
        assert set(found) == set(weights)
        assert all(torch.equal(found[name], half[name]) for name in weights)
    assert model_of(read_weights(tmp_path)).config == ONE


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"\xff" * 40, "not a safetensors file"), (b"abc", "not a safetensors file")],
    ids=["wild-length", "short"],
)
def test_a_damaged_safetensors_file_is_refused(tmp_path, content, fault):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=fault):
        read_weights(tmp_path / "x.safetensors")


def test_a_folder_or_file_without_weights_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.safetensors or pytorch_model\.bin"):
        read_weights(tmp_path)
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="expected a state_dict"):
        read_weights(tmp_path / "x.pt")


def edited(**changes):
    """A checkpoint with tensors added, replaced, or (None) removed."""
    weights = public_names(random_model(ONE, seed=8)) | {k.replace("__", "."): v for k, v in changes.items()}
    return {name: value for name, value in weights.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"backbone__encoder__layers__0__attn__q_conv1d__weight": torch.zeros(48, 1, 4)},
            r"no equivalent.*backbone\.encoder\.layers\.0\.attn\.q_conv1d\.weight",
        ),
        (
            {"backbone__decoder__layers__0__attn__h_conv1d__bias": torch.zeros(24)},
            r"no equivalent.*decoder\.layers\.0\.attn\.h_conv1d\.bias",
        ),
        ({"backbone__lower_bounds": torch.zeros(2, 24)}, r"no equivalent.*backbone\.lower_bounds"),
        ({"backbone__residual_proj__bias": None}, r"missing.*stages\.0\.residual\.bias"),
        ({"backbone__main_network__pad_dimension": None}, r"missing.*stages\.0\.pad"),
        (
            {"backbone__main_network__pad_dimension": torch.zeros(5)},
            r"do not fit.*backbone\.main_network\.pad_dimension \[5\], expected \[16\]",
        ),
        (
            {"backbone__encoder__layers__1__attn__g_norm__weight": torch.ones(12)},
            r"do not fit.*layers\.1\.attn\.g_norm\.weight \[12\], expected \[48\]",
        ),
        (
            {"backbone__encoder__layers__1__mlp__down_proj__weight": torch.zeros(24, 14, dtype=torch.uint8)},
            r"packed.*layers\.1\.mlp\.down_proj\.weight",
        ),
        ({"backbone__routing_module__q_proj_layer__weight": None}, r"only hierarchical models"),
    ],
    ids=["three-convolutions", "bias", "bounds", "no-bias", "no-pad", "pad", "norm", "packed", "flat"],
)
def test_what_has_no_equivalent_or_does_not_fit_is_refused_by_name(changes, fault):
    with pytest.raises(ValueError, match=fault):
        model_of(edited(**changes))


def test_a_level_that_is_narrower_than_the_one_around_it_is_refused():
    weights = public_names(random_model(ONE, seed=8))
    narrow = random_model(
        Config(hidden=(16, 20), recurrent=(16, 16), intermediate=(16, 16), layers=3, router=(16,)), seed=1
    )
    inner = {k: v for k, v in public_names(narrow).items() if k.startswith("backbone.main_network.main_network")}
    with pytest.raises(ValueError, match=r"model\.hidden must not decrease.*\[24, 20\]"):
        model_of(weights | inner)


def test_matrices_that_are_ternary_already_keep_their_codes_and_scale():
    model = random_model(ONE, seed=8)
    weights = public_names(model)
    exported = {}
    for name, value in weights.items():
        codes, scale = weight_codes(value) if value.ndim == 2 and "_proj." in name else (None, None)
        exported[name] = value if codes is None or "residual" in name else codes.float() * scale
    imported = model_of(exported)
    for stack in (model.stages[0].encoder, model.main):
        ours = stack.layers[0].attn.i_proj.weight
        theirs = (imported.stages[0].encoder if stack is model.stages[0].encoder else imported.main).layers[0]
        codes, scale = weight_codes(ours)
        found, found_scale = weight_codes(theirs.attn.i_proj.weight)
        assert torch.equal(codes, found)
        assert found_scale == pytest.approx(scale, rel=1e-3)


def test_a_model_that_predicts_the_byte_after_the_next_is_noticed():
    class Oracle:
        def __init__(self, ahead):
            self.ahead = ahead

        def __call__(self, tokens):
            alphabet = torch.arange(97, 123)
            wanted = alphabet[(tokens - 97 + self.ahead) % 26]
            return 9.0 * torch.nn.functional.one_hot(wanted, 256), None

    text = np.frombuffer(bytes(range(97, 123)) * 8, dtype=np.uint8)
    right, wrong = shift_of(Oracle(1), text), shift_of(Oracle(2), text)
    assert right[0] < 1 < right[1]
    assert wrong[1] < 1 < wrong[0]


def test_the_command_writes_a_model_file_and_names_what_is_wrong(tmp_path):
    def command(*arguments):
        words = [sys.executable, ROOT / "scripts" / "import_hnet.py", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/")

    weights = public_names(random_model(ONE, seed=8))
    torch.save(weights, tmp_path / "good.pt")
    done = command("--checkpoint", tmp_path / "good.pt", "--out", tmp_path / "m.gguf", "--license", "Apache-2.0")
    assert (done.returncode, done.stderr) == (0, "")
    keys, _ = gguf_file.read(tmp_path / "m.gguf")
    assert keys["general.architecture"] == "hnetbit" and keys["general.license"] == "Apache-2.0"
    loaded, expected = gguf_file.load(tmp_path / "m.gguf"), model_of(weights)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens)[0], expected(tokens)[0], rtol=0, atol=0.05)
    torch.save({**weights, "backbone.lower_bounds": torch.zeros(3)}, tmp_path / "bad.pt")
    done = command("--checkpoint", tmp_path / "bad.pt", "--out", tmp_path / "bad.gguf")
    assert done.returncode == 1 and "backbone.lower_bounds" in done.stderr
    assert not (tmp_path / "bad.gguf").exists()
    (tmp_path / "short.txt").write_text("abc", encoding="utf-8")
    done = command("--checkpoint", tmp_path / "good.pt", "--out", tmp_path / "x.gguf", "--text", tmp_path / "short.txt")
    assert done.returncode == 1 and "at least 64 bytes" in done.stderr
