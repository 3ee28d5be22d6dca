"""Published checkpoints become model files: every number where it belongs, nothing quantised twice, faults by name."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import gguf
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import HFValidationError, HTTPError
from torch.nn import functional as F

import convert as convert_command
from conftest import ROOT
from lm import arch
from lm.arch.ternary import quantize_activation
from lm.file import checkpoint, convert, gguf_file, pickled, published, tokenizer_keys, weights
from lm.file.published import bitmamba2_shapes, hgrnbit_shapes
from lm.text import command as ending
from published_checkpoints import HGRN_BIT, TOKENIZERS, bitmamba, hgrn_bit, write_bitmamba, write_folder

CONV = HGRN_BIT | {"use_short_conv": True, "expand_ratio": 2, "use_lower_bound": False, "intermediate_size": 200}


@pytest.fixture
def command(capsys):
    """convert.py without a process of its own -> (exit status, what it printed, what it complained)"""

    def run(*words, **options):
        words = [*words, "--quiet", *(w for key, value in options.items() for w in (f"--{key}", value))]
        status = ending.status(lambda: convert_command.main([str(word) for word in words]), "convert")
        return status, *capsys.readouterr()

    return run


# ---- the published forward pass, written once more from the definitions with the checkpoint's own names


def published_linear(x, state, name):
    norm, w = state[f"{name}.norm.weight"].float(), state[f"{name}.weight"].double()
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * norm
    scale = w.abs().mean().clamp(min=1e-5)
    return F.linear(quantize_activation(x), ((w / scale).round().clamp(-1, 1) * scale).float())


def published_norm(x, state, name):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * state[f"{name}.weight"].float()


def published_hgrn_bit(state, settings, tokens):
    """tokens [T] -> logits [T, V]"""
    h = state["model.embeddings.weight"].float()[tokens]
    layers = settings["num_hidden_layers"]
    bounds = None
    if settings["use_lower_bound"]:
        bounds = state["model.lower_bounds"].float().softmax(0)
        bounds = bounds.cumsum(0) - bounds[0]
    for n in range(layers):
        at = f"model.layers.{n}."
        x = published_norm(h, state, f"{at}attn_norm")
        if settings["use_short_conv"]:
            taps = state[f"{at}attn.h_conv1d.weight"].float()
            padded = F.pad(x.T[None], (taps.shape[-1] - 1, 0))
            x = F.silu(F.conv1d(padded, taps, groups=len(taps))[0].T)
        i = published_linear(x, state, f"{at}attn.i_proj")
        f = published_linear(x, state, f"{at}attn.f_proj").sigmoid()
        if bounds is not None and n > 0:
            f = bounds[n] + (1 - bounds[n]) * f
        u, s, memory = F.silu(i) * (1 - f), torch.zeros_like(i[0]), []
        for t in range(len(tokens)):
            s = f[t] * s + u[t]
            memory.append(s)
        gate = published_norm(published_linear(x, state, f"{at}attn.g_proj"), state, f"{at}attn.g_norm")
        h = h + published_linear(gate * F.silu(torch.stack(memory)), state, f"{at}attn.o_proj")
        gate, up = published_linear(published_norm(h, state, f"{at}mlp_norm"), state, f"{at}mlp.gate_proj").chunk(2, -1)
        h = h + published_linear(F.silu(gate) * up, state, f"{at}mlp.down_proj")
    return published_linear(published_norm(h, state, "model.norm"), state, "lm_head")


@torch.no_grad()
@pytest.mark.parametrize(
    ("settings", "how"),
    [(HGRN_BIT, "safetensors"), (HGRN_BIT, "bin-shards"), (CONV, "shards"), (CONV, "bin")],
    ids=["bounds-safetensors", "bounds-bin-shards", "conv-shards", "conv-bin"],
)
def test_a_converted_matmul_free_model_computes_what_the_checkpoint_does(tmp_path, command, settings, how):
    state = hgrn_bit(settings)
    source = write_folder(tmp_path / "hub", state, settings, how)
    status, printed, _ = command(source, out=tmp_path / "m.gguf", embedding="F16", type="TQ2_0")
    assert status == 0 and "quantised here" in printed
    model = gguf_file.load(tmp_path / "m.gguf")
    tokens = torch.randint(0, 1024, (30,), generator=torch.Generator().manual_seed(1))
    expected = published_hgrn_bit(state, settings, tokens)
    found, _ = model(tokens[None])
    # What is left: scales in fp16 (2^-11 each) and an int8 code here and there; a wrong norm or bound is off by about 1.
    error = (found[0] - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.02
    keys, tensors = gguf_file.read(tmp_path / "m.gguf")
    assert keys["general.license"] == "apache-2.0" and keys["general.source"] == "hub"
    assert len(keys["general.source_sha256"]) == 64
    assert tensors["token_embd.weight"].shape == (1024, 64)
    if settings["use_lower_bound"]:
        assert not tensors["blk.0.lower_bound"].any()
        assert (tensors["blk.2.lower_bound"] > 0).all() and (tensors["blk.2.lower_bound"] < 1).all()


@torch.no_grad()
def test_a_converted_bitmamba_has_the_codes_and_scales_of_its_bin(tmp_path, command):
    tensors = bitmamba()
    source = write_bitmamba(tmp_path / "m.bin", tensors)
    _, printed, _ = command(source, out=tmp_path / "m.gguf", tokenizer=TOKENIZERS / "gpt2", license="MIT")
    assert "0 of them quantised here" in printed and "5 matrices were ternary already" in printed
    keys, found = gguf_file.read(tmp_path / "m.gguf")
    assert keys["general.architecture"] == "bitmamba2" and keys["bitmamba2.head_count"] == 4
    for name, value in tensors:
        if name.endswith(("_proj.weight", "lm_head.weight")):
            ours = "output" if name.startswith("lm_head") else name.split(".weight")[0].replace("layers", "blk")
            ours = ours.replace("in_proj", "ssm_in").replace("out_proj", "ssm_out")
            scale = float(value.abs().mean().half())
            w = found[f"{ours}.weight"][:, : value.shape[1]]
            assert np.array_equal(np.sign(w), np.clip(np.rint(value.numpy() / scale), -1, 1)), name
            assert np.unique(np.abs(w)).tolist() == [0, scale]
    values = dict(tensors)
    assert np.allclose(found["blk.1.ssm_rate"], values["layers.1.A_log"].exp())
    assert np.array_equal(found["blk.1.conv.weight"], values["layers.1.conv1d.weight"][:, 0].numpy())
    model = gguf_file.load(tmp_path / "m.gguf")
    logits, _ = model(torch.arange(20)[None])
    assert logits.isfinite().all() and logits.std() > 0.1


def test_every_format_of_weights_gives_the_same_file(tmp_path):
    state = hgrn_bit(HGRN_BIT)
    files = []
    for how in ("safetensors", "shards", "bin", "bin-shards"):
        source = write_folder(tmp_path / how, state, how=how)
        kind = published.of_config_json(HGRN_BIT)
        tensors, _ = weights.open_folder(source)
        tokenizer = tokenizer_keys.read_folder(source, HGRN_BIT)
        convert.write(tmp_path / f"{how}.gguf", kind, tensors, gguf_file.Card("m"), tokenizer)
        files.append((tmp_path / f"{how}.gguf").read_bytes())
    assert files[1:] == files[:1] * 3


def test_the_shapes_are_those_of_the_models():
    for config, shapes in (
        (
            arch.module_of("hgrnbit").Config(vocab_size=9, hidden=3, recurrent=5, intermediate=7, layers=2),
            hgrnbit_shapes,
        ),
        (arch.module_of("hgrnbit").Config(layers=2, conv_kernel=0, lower_bounds=True), hgrnbit_shapes),
        (arch.module_of("bitmamba2").Config(vocab_size=9, hidden=3, inner=8, heads=2, layers=2), bitmamba2_shapes),
    ):
        model = arch.build(config)
        assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == shapes(config)


# ---- numbers


def test_masters_are_quantised_once_by_the_mean_of_their_stored_numbers():
    w = torch.randn(700, 96, generator=torch.Generator().manual_seed(0)) * 0.02
    report = convert.Report()
    codes, scale = convert.quantize("w", w, report)
    exact = w.double().numpy()
    assert scale == pytest.approx(np.abs(exact).mean(), rel=1e-12)
    assert np.array_equal(codes, np.clip(np.rint(exact / np.abs(exact).mean()), -1, 1))
    half = w.half().numpy()
    divisor = np.float16(1 / np.float32(np.float16(np.abs(half).mean(dtype=np.float32))))
    in_fp16 = np.clip(np.rint((half * divisor).astype(np.float32)), -1, 1)
    assert report.flips == (in_fp16 != codes).sum() > 0
    assert report.quantised == w.numel()


def test_a_matrix_that_is_ternary_already_keeps_its_codes_and_scale():
    codes = torch.randint(-1, 2, (40, 64), generator=torch.Generator().manual_seed(0))
    report = convert.Report()
    found, scale = convert.quantize("w", (codes * 0.0625).bfloat16(), report)
    assert np.array_equal(found, codes.numpy()) and scale == 0.0625, "not 0.0417, the mean of |w|"
    assert report.kept == ["w"] and report.quantised == 0


def test_a_matrix_that_is_ternary_row_by_row_is_not_quantised_again():
    codes = torch.randint(-1, 2, (40, 64), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"proj: ternary already, with a scale for each row.*share of zeros"):
        convert.quantize("proj", codes * torch.linspace(0.1, 0.2, 40)[:, None], convert.Report())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor(value):
    w = torch.randn(16, 16)
    w[3, 4] = value
    with pytest.raises(ValueError, match="proj: expected finite weights"):
        convert.quantize("proj", w, convert.Report())
    for kind in ("I8", "F16"):
        with pytest.raises(ValueError, match="embed: expected finite numbers"):
            convert.embedding("embed", w, kind, convert.Report())


@pytest.mark.parametrize("scale", [1e-9, 1e5])
def test_a_scale_beyond_fp16_is_refused(scale):
    with pytest.raises(ValueError, match=r"proj: its scale .* is no fp16 number"):
        convert.packed("proj", np.ones((4, 256), np.int8), scale, "TQ1_0", convert.Report())


def test_the_error_of_the_embedding_is_measured():
    w = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    report = convert.Report()
    codes, scale = convert.embedding("embed", w, "I8", report)
    lost = codes * scale[:, None] - w.float().numpy()
    assert report.embedding_error == pytest.approx(np.sqrt((lost**2).sum() / (w.float().numpy() ** 2).sum()), rel=1e-4)
    assert 0.002 < report.embedding_error < 0.01
    convert.embedding("embed", w, "F16", report)
    assert report.embedding_error < 1e-6


# ---- faults, by name


def edited(tmp_path, changes, settings=HGRN_BIT, how="safetensors"):
    state = hgrn_bit(settings) | changes
    return write_folder(tmp_path / "hub", {k: v for k, v in state.items() if v is not None}, settings, how)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model.layers.1.attn.g_norm.weight": None}, r"are missing: model\.layers\.1\.attn\.g_norm\.weight"),
        (
            {"model.layers.1.attn.f_conv1d.weight": torch.ones(3)},
            r"no equivalent here: model\.layers\.1\.attn\.f_conv1d",
        ),
        (
            {"lm_head.weight": torch.ones(1024, 63)},
            r"do not fit the settings: lm_head\.weight \[1024, 63\], expected \[1024, 64\]",
        ),
        ({"model.lower_bounds": torch.ones(2, 64)}, r"model\.lower_bounds \[2, 64\], expected \[3, 64\]"),
        (
            {"lm_head.weight": torch.ones(1024, 64, dtype=torch.uint8)},
            r"are packed in a way that is not known.*lm_head\.weight",
        ),
        ({"model.norm.weight": torch.full((64,), float("nan"))}, r"output_norm\.weight: expected finite numbers"),
    ],
    ids=["missing", "unknown", "wrong-shape", "bounds", "packed", "nan"],
)
def test_a_tensor_that_does_not_fit_is_named_and_no_file_is_left(tmp_path, command, changes, fault):
    source = edited(tmp_path, changes)
    status, _, complaint = command(source, out=tmp_path / "m.gguf")
    assert status == 1 and re.search(fault, complaint), complaint
    assert [p.name for p in tmp_path.iterdir()] == ["hub"], "nothing half-written"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'; expected 'hgrn_bit'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ({"use_short_conv": True, "share_conv_kernel": False}, "share_conv_kernel is False"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"num_hidden_layers": "24"}, "num_hidden_layers is '24'"),
    ],
)
def test_a_setting_that_is_not_computed_here_is_refused_by_name(settings, fault):
    with pytest.raises(ValueError, match=fault):
        published.of_config_json(HGRN_BIT | settings)


def test_a_shard_that_is_missing_or_half_there_is_named(tmp_path):
    for how, last in (
        ("shards", "model-00002-of-00002.safetensors"),
        ("bin-shards", "pytorch_model-00002-of-00002.bin"),
    ):
        source = write_folder(tmp_path / how, hgrn_bit(HGRN_BIT), how=how)
        raw = (source / last).read_bytes()
        for half in (raw[: len(raw) // 2], raw[:-1], raw[:100], b""):
            (source / last).write_bytes(half)
            with pytest.raises(ValueError, match=rf"{last}.*half-way"):
                weights.open_folder(source)
        (source / last).unlink()
        with pytest.raises(ValueError, match=rf"names {last}, which is not there"):
            weights.open_folder(source)


def test_an_index_that_promises_more_than_the_shards_have_is_refused(tmp_path):
    source = write_folder(tmp_path, hgrn_bit(HGRN_BIT), how="shards")
    index = source / "model.safetensors.index.json"
    values = json.loads(index.read_text(encoding="utf-8"))
    values["weight_map"]["model.extra"] = values["weight_map"]["lm_head.weight"]
    index.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"promises tensors that no file has: model\.extra"):
        weights.open_folder(source)


def test_a_bin_that_stops_anywhere_or_has_wild_numbers_is_refused_by_name(tmp_path):
    whole = write_bitmamba(tmp_path / "m.bin", bitmamba()).read_bytes()
    path = tmp_path / "cut.bin"
    for size in (*range(0, 400, 3), *range(400, len(whole), 997), len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.bin.*(half-way|expected)"):
            weights.open_bitmamba(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match="1 bytes follow the last tensor"):
        weights.open_bitmamba(path)
    for at, number in ((4, -1), (12, 0), (12, 10**6), (20, 1), (24, 9), (28, -4), (28, 2**31 - 1)):
        path.write_bytes(whole[:at] + struct.pack("<i", number) + whole[at + 4 :])
        with pytest.raises(ValueError, match=r"cut\.bin"):
            weights.open_bitmamba(path)


def test_a_code_or_divisor_that_means_nothing_is_refused(tmp_path):
    whole = bytearray(write_bitmamba(tmp_path / "m.bin", bitmamba()).read_bytes())
    for at, value, fault in (
        (len(whole) - 1, b"\xff", "the code 3"),
        (len(whole) - 1024 * 8 - 4, b"\0\0\0\0", "divided by 0.0"),
    ):
        broken = whole[:at] + value + whole[at + len(value) :]
        (tmp_path / "x.bin").write_bytes(broken)
        _, tensors = weights.open_bitmamba(tmp_path / "x.bin")
        with pytest.raises(ValueError, match=rf"lm_head\.weight .*{fault}"):
            tensors["lm_head.weight"].load()


class Harmful:
    """What a pickle can do when it is executed."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_in_a_pytorch_file_is_executed(tmp_path):
    torch.save({"a": torch.ones(3), "b": Harmful(str(tmp_path / "made"))}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"it names posix\.mkdir; expected tensors and plain values"):
        weights.open_file(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"not a checkpoint of scripts/train\.py.*it names posix\.mkdir"):
        checkpoint.load(tmp_path / "pytorch_model.bin")
    assert not (tmp_path / "made").exists()


def test_tensors_of_every_type_and_layout_come_back_from_a_pytorch_file(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    content = {
        "config": {"rate": 0.5, "steps": 3, "name": "x", "flag": True, "none": None, "list": [1, (2, 3)]},
        "view": base[1:5:2, 3:],
        "transposed": base.T,
        "parameter": torch.nn.Parameter(base.clone()),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5),
        **{str(t): torch.arange(5).to(t) for t in pickled.STORAGES.values()},
    }
    torch.save(content, tmp_path / "x.pt")
    found = pickled.loaded(pickled.read(tmp_path / "x.pt"))
    assert found["config"] == content["config"]
    for name, value in content.items():
        if name != "config":
            assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04" + b"\0" * 60, pickle.dumps({"a": 1})])
def test_what_is_no_pytorch_file_is_refused(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.bin: not a whole file of torch\.save"):
        pickled.read(tmp_path / "x.bin")


def test_a_pytorch_file_with_a_damaged_pickle_or_tensor_is_refused(tmp_path):
    torch.save({"a": torch.ones(300)}, tmp_path / "x.bin")
    with zipfile.ZipFile(tmp_path / "x.bin") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    for name, data in records.items():
        if not name.endswith(("data.pkl", "data/0")):
            continue
        for cut in range(0, len(data), max(1, len(data) // 40)):
            with zipfile.ZipFile(tmp_path / "y.bin", "w") as archive:
                for other, raw in records.items():
                    archive.writestr(other, raw[:cut] if other == name else raw)
            with pytest.raises(ValueError, match=r"y\.bin"):
                pickled.loaded(pickled.read(tmp_path / "y.bin"))


def test_a_folder_or_source_that_is_not_one_says_what_was_expected(tmp_path, command):
    (tmp_path / "empty").mkdir()
    for source, fault in (
        (tmp_path / "empty", "expected config.json in it"),
        (tmp_path / "nowhere", "no such file or folder; a repository of the hub is hf:owner/name"),
        (ROOT / "README.md", "expected a folder with config.json, a .gguf of BitNet, or a .bin of BitMamba-2"),
    ):
        status, _, complaint = command(source, out=tmp_path / "m.gguf")
        assert status == 1 and fault in complaint
    write_bitmamba(tmp_path / "m.bin", bitmamba())
    status, _, complaint = command(tmp_path / "m.bin", out=tmp_path / "m.gguf")
    assert status == 1 and "has no tokenizer.json in it: name the folder of one with --tokenizer" in complaint


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub without a network: what was asked of it, and the folder it gives."""
    asked = []
    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda api, *_, **__: asked.append(api.token) or FILES
    )
    folder = write_folder(tmp_path / "snapshot", hgrn_bit(HGRN_BIT))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(folder))
    return asked


FILES = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"]


def test_a_repository_of_the_hub_is_downloaded_once_with_no_token_but_the_environments(
    tmp_path, command, hub, monkeypatch
):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    status, _, complaint = command("hf:owner/name@v1", out=tmp_path / "m.gguf")
    assert status == 0, complaint
    (token, ((repository,), options)) = hub
    assert (repository, options["revision"], token, options["token"]) == ("owner/name", "v1", False, False)
    assert "*.safetensors" in options["allow_patterns"] and "tokenizer.json" in options["allow_patterns"]
    assert not [p for p in options["allow_patterns"] if p.startswith("pytorch_model")], "one format is enough"
    assert gguf_file.read(tmp_path / "m.gguf")[0]["general.source"] == "hf:owner/name@v1"
    monkeypatch.setenv("HF_TOKEN", "secret")
    command("hf:owner/name", out=tmp_path / "m.gguf")
    assert hub[2] == "secret" and hub[3][1]["token"] == "secret"


@pytest.mark.parametrize("fault", [HTTPError("no route"), OSError("no route"), HFValidationError("no route")])
def test_a_download_that_fails_is_one_sentence(tmp_path, command, hub, monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    status, _, complaint = command("hf:owner/name", out=tmp_path / "m.gguf")
    assert status == 1 and complaint == "convert: hf:owner/name: could not be downloaded: no route\n"


def test_a_tokenizer_of_another_size_than_the_embedding_is_refused(tmp_path, command):
    settings = HGRN_BIT | {"vocab_size": 1100}
    source = write_folder(tmp_path / "hub", hgrn_bit(settings), settings)
    status, _, complaint = command(source, out=tmp_path / "m.gguf")
    assert status == 1 and "the model has 1100 tokens, but a tokenizer of 1024 pieces" in complaint
    assert not (tmp_path / "m.gguf").exists()


def test_the_file_has_the_tokenizer_in_it(tmp_path):
    source = write_folder(tmp_path / "hub", hgrn_bit(HGRN_BIT))
    words = [sys.executable, ROOT / "scripts" / "convert.py", source, "--out", tmp_path / "m.gguf"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/")
    assert done.returncode == 0 and "m.gguf: 100%" in done.stderr, done.stderr
    keys, _ = gguf_file.read(tmp_path / "m.gguf")
    theirs = json.loads((TOKENIZERS / "llama" / "tokenizer.json").read_text(encoding="utf-8"))
    assert json.loads(keys["tokenizer.huggingface.json"]) == theirs
    assert keys["tokenizer.ggml.tokens"][300] == next(p for p, n in theirs["model"]["vocab"].items() if n == 300)
    assert (keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.eos_token_id"]) == (1, 2)
    kinds = {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds == {"F32", "I8", "TQ1_0"}
