"""A written model file gives back exactly the codes, scales and constants that went in."""

import hashlib
import subprocess

import gguf
import numpy as np
import pytest
import torch

from conftest import NATIVE
from lm.arch import hnetbit
from lm.arch.hgrnbit import Config
from lm.arch.ternary import BitLinear, embedding_codes, weight_codes
from lm.file import checksum, gguf_file, gguf_layout
from make_golden import random_model
from publish import count_parameters


def random_codes(rows, cols, seed=0):
    return np.random.default_rng(seed).integers(-1, 2, size=(rows, cols)).astype(np.int8)


def unpack(packed, ternary_type):
    return gguf.quants.dequantize(packed, gguf_file.TERNARY_TYPES[ternary_type])


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("cols", [1, 64, 255, 256, 257, 768])
@pytest.mark.parametrize("scale", [2.0**-24, 2.0**-14, 0.0123443603515625, 1.0, 65504.0])
def test_codes_and_scale_come_back_exactly_and_padding_is_zero(ternary_type, cols, scale):
    codes = random_codes(5, cols)
    values = unpack(gguf_file.ternary_blocks(codes, scale, ternary_type), ternary_type)
    assert values.shape == (5, -(-cols // 256) * 256)
    assert np.array_equal(values[:, :cols], codes.astype(np.float32) * np.float32(scale))
    assert not values[:, cols:].any()


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
def test_our_packing_equals_the_packing_of_the_gguf_package(ternary_type):
    codes = random_codes(7, 1024, seed=1)
    theirs = gguf.quants.quantize(codes.astype(np.float32) * np.float32(0.5), gguf_file.TERNARY_TYPES[ternary_type])
    assert np.array_equal(gguf_file.ternary_blocks(codes, 0.5, ternary_type), theirs)


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
def test_all_blocks_of_a_matrix_carry_the_same_scale_also_where_all_codes_are_zero(ternary_type):
    codes = random_codes(3, 512)
    codes[1] = 0
    packed = gguf_file.ternary_blocks(codes, 0.25, ternary_type)
    block_bytes = {"TQ1_0": 54, "TQ2_0": 66}[ternary_type]
    assert (packed.reshape(-1, block_bytes)[:, -2:].copy().view(np.float16) == 0.25).all()


@pytest.mark.parametrize("scale", [0.1, -0.5, float("inf"), float("nan"), 1e6])
def test_a_scale_that_fp16_cannot_hold_is_refused(scale):
    with pytest.raises(ValueError, match="fp16"):
        gguf_file.ternary_blocks(random_codes(1, 4), scale, "TQ2_0")


def test_a_code_that_is_not_ternary_is_refused():
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        gguf_file.ternary_blocks(np.array([[0, 2]], dtype=np.int8), 1.0, "TQ2_0")


HNET = hnetbit.Config(
    hidden=(40, 272), recurrent=(48, 64), intermediate=(56, 80), layers=1, router=(24,), target=(3.5,)
)
CONFIGS = {
    "one stage": HNET,
    "two stages of one width, no bounds": hnetbit.Config(
        hidden=(48, 48, 48),
        recurrent=(32, 48, 64),
        intermediate=(64, 48, 80),
        encoder=(2, 1),
        decoder=(1, 2),
        layers=2,
        router=(48, 16),
        target=(4.0, 2.0),
        lr_multiplier=(1.0, 1.0, 1.0),
        decay_span=(0.0, 0.0, 0.0),
        conv_kernel=0,
        gate_norm="state",
        sigmoid="piecewise_linear",
    ),
    "every part present": Config(hidden=64, recurrent=128, intermediate=96, layers=3, conv_kernel=4, lower_bounds=True),
    "fixed lower bounds": Config(hidden=64, recurrent=64, intermediate=96, layers=2, conv_kernel=2, decay_span=100.0),
    "nothing optional": Config(
        hidden=320,
        recurrent=64,
        intermediate=80,
        layers=1,
        conv_kernel=0,
        gate_norm="state",
        sigmoid="piecewise_linear",
    ),
}


def has_bounds(config):
    return getattr(config, "lower_bounds", False) or np.max(config.decay_span) > 1


@pytest.fixture(params=CONFIGS, ids=lambda name: name.replace(" ", "-"))
def model(request):
    return random_model(CONFIGS[request.param], seed=3)


@pytest.mark.parametrize("ternary_type", ["TQ1_0", "TQ2_0"])
def test_an_exported_model_reads_back_with_the_numbers_the_pytorch_model_computes_with(model, ternary_type, tmp_path):
    gguf_file.write(tmp_path / "m.gguf", model, gguf_file.Card("m"), ternary_type)
    _, tensors = gguf_file.read(tmp_path / "m.gguf")
    parameters, keep = model.state_dict(), gguf_layout.keep_of_blocks(model)
    for name, parameter, kind in gguf_layout.rows(model, has_bounds(model.config)):
        if kind == "ternary":
            codes, scale = weight_codes(parameters[f"{parameter}.weight"])
            stored, cols = tensors.pop(f"{name}.weight"), codes.shape[1]
            assert np.array_equal(stored[:, :cols], codes.numpy() * np.float32(scale)), name
            assert not stored[:, cols:].any(), name
            norm = tensors.pop(f"{name}.in_norm.weight")
            assert np.array_equal(norm, parameters.pop(f"{parameter}.norm.weight").numpy()), name
            del parameters[f"{parameter}.weight"]
            continue
        if kind == "lower_bound":
            assert np.array_equal(tensors.pop(name), 1 - keep.pop(parameter).numpy()), name
            continue
        value = parameters.pop(parameter)
        if kind in ("embedding", "dense"):
            codes, scale = embedding_codes(value)
            assert np.array_equal(tensors.pop(f"{name}.weight"), codes.numpy()), name
            assert np.array_equal(tensors.pop(f"{name}.scale"), scale.numpy()), name
        else:
            assert np.array_equal(tensors.pop(name), (value.squeeze(1) if kind == "conv" else value).numpy()), name
    assert not [name for name, value in parameters.items() if value.numel() and name != "lower_bounds"]
    assert not has_bounds(model.config) or not keep
    assert not tensors, "tensors in the file that the model does not have"


def test_an_exported_model_carries_its_settings_and_its_card(model, tmp_path):
    card = gguf_file.Card("Name", "Sentence.", "MIT", "TinyStories (CDLA-Sharing-1.0)", 2**33)
    gguf_file.write(tmp_path / "m.gguf", model, card, "TQ1_0")
    keys, _ = gguf_file.read(tmp_path / "m.gguf")
    documented = list(gguf_layout.keys_of(model.config.architecture))
    assert list(keys) == [key for key in documented if key in keys]
    assert all(key.startswith(("general.source", "tokenizer.")) for key in documented if key not in keys)
    assert keys["general.architecture"] == model.config.architecture
    assert keys["general.training_bytes"] == 2**33
    assert [keys[f"general.{k}"] for k in ("name", "description", "license", "training_text")] == [
        card.name,
        card.description,
        card.license,
        card.training_text,
    ]
    for key, value in gguf_layout.keys_from_config(model.config).items():
        if isinstance(value, str):
            assert keys[key] == value, key
        else:
            assert np.array_equal(np.float32(keys[key]), np.float32(value)), key
    found, training_only = gguf_layout.config_from_keys(keys), {"lower_bounds", "decay_span", "lr_multiplier"}
    for name, value in vars(model.config).items():
        assert name in training_only or getattr(found, name) == value, name


def test_the_values_of_the_keys_are_the_settings_of_the_model():
    own = {k.split(".")[1]: v for k, v in gguf_layout.keys_from_config(HNET).items() if k.startswith("hnetbit.")}
    assert own == {
        "embedding_length": (40, 272),
        "recurrent_length": (48, 64),
        "feed_forward_length": (56, 80),
        "encoder_block_count": (1,),
        "decoder_block_count": (1,),
        "block_count": 1,
        "router_length": (24,),
        "target_chunk_length": (3.5,),
        "vocab_size": 256,
        "norm_rms_epsilon": 1e-6,
        "conv_kernel": 4,
        "gate_norm": "gate",
        "sigmoid": "table",
    }


def test_a_file_of_an_unknown_architecture_is_refused_by_name(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("x", np.zeros(4, dtype=np.float32))
    for part in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        part()
    with pytest.raises(
        ValueError,
        match=r"m\.gguf: expected general\.architecture hgrnbit or hnetbit or bitmamba2 or bitnet, found llama",
    ):
        gguf_file.load(tmp_path / "m.gguf")


def test_an_unknown_ternary_type_is_refused_before_a_file_exists(model, tmp_path):
    with pytest.raises(ValueError, match="TQ1_0, TQ2_0"):
        gguf_file.write(tmp_path / "m.gguf", model, gguf_file.Card("m"), "Q4_0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nothing optional", "one stage"])
def test_the_parameter_count_is_that_of_the_pytorch_model(tmp_path, name):
    model = random_model(CONFIGS[name], seed=0)
    gguf_file.write(tmp_path / "m.gguf", model, gguf_file.Card("m"), "TQ1_0")
    loaded = gguf_file.load(tmp_path / "m.gguf")  # without the padding of the file's rows
    assert count_parameters(loaded) == sum(p.numel() for p in model.parameters())


def test_a_file_loaded_into_pytorch_computes_what_the_exported_model_computes(model, tmp_path):
    gguf_file.write(tmp_path / "m.gguf", model, gguf_file.Card("m"), "TQ1_0")
    loaded = gguf_file.load(tmp_path / "m.gguf")
    for (name, module), other in zip(model.named_modules(), loaded.modules()):
        if isinstance(module, BitLinear):
            codes, scale = weight_codes(module.weight)
            loaded_codes, loaded_scale = weight_codes(other.weight)
            assert scale == loaded_scale and torch.equal(codes, loaded_codes), name
    codes, scale = embedding_codes(model.embeddings.weight)
    loaded_codes, loaded_scale = embedding_codes(loaded.embeddings.weight)
    assert torch.equal(codes, loaded_codes)
    torch.testing.assert_close(loaded_scale, scale, rtol=1e-6, atol=0)
    for (name, module), other in zip(model.named_modules(), loaded.modules()):
        if isinstance(module, hnetbit.Dense):
            (codes, scale), (loaded_codes, loaded_scale) = embedding_codes(module.weight), embedding_codes(other.weight)
            assert torch.equal(codes, loaded_codes), name
            torch.testing.assert_close(loaded_scale, scale, rtol=1e-6, atol=0)
    keep, loaded_keep = gguf_layout.keep_of_blocks(model), gguf_layout.keep_of_blocks(loaded)
    assert len(keep) == len(loaded_keep)
    for name, values in keep.items():
        torch.testing.assert_close(loaded_keep[name], values, rtol=0, atol=1e-7)
    assert loaded.config.eps == model.config.eps
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens)[0], model(tokens)[0], rtol=0, atol=0.05)


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "m.gguf"
    gguf_file.write(path, random_model(CONFIGS["nothing optional"], seed=3), gguf_file.Card("m"), "TQ1_0")
    return path


def test_a_written_file_carries_its_checksum_and_damage_is_noticed(small_file):
    content = small_file.read_bytes()
    digits = gguf_file.read(small_file)[0][checksum.KEY].encode()
    assert content.count(digits) == 1
    assert hashlib.sha256(content.replace(digits, b"0" * 64)).hexdigest().encode() == digits
    assert checksum.check(small_file)
    for damaged in (content[:-40] + bytes([content[-40] ^ 1]) + content[-39:], content + bytes(32)):
        small_file.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            gguf_file.read(small_file)


def test_the_engine_agrees_with_the_checksum(small_file, native):
    run = [NATIVE / "tern", "inspect", "--model", small_file]
    assert "\nchecked: " in subprocess.run(run, capture_output=True, encoding="utf-8", check=True).stdout
    small_file.write_bytes(small_file.read_bytes() + bytes(1))
    done = subprocess.run(run, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "is damaged" in done.stderr


def test_a_file_of_an_older_export_gets_a_checksum_and_keeps_its_tensors(small_file, tmp_path):
    content, place = small_file.read_bytes(), checksum.place_of(small_file)
    entry = len(checksum.KEY) + 8 + 4 + 8
    first = place + 64
    header = content[:16] + (int.from_bytes(content[16:24], "little") - 1).to_bytes(8, "little")
    header += content[24 : place - entry] + content[first : first + directory_bytes(small_file)]
    data = content[gguf.GGUFReader(small_file).data_offset :]
    old = tmp_path / "old.gguf"
    old.write_bytes(header + bytes(-len(header) % 32) + data)
    assert checksum.check(old) is False
    checksum.add(old)
    assert old.read_bytes() == content
    checksum.add(old)
    assert old.read_bytes() == content


def directory_bytes(path):
    fields = [tensor.field for tensor in gguf.GGUFReader(path).tensors]
    return sum(part.nbytes for field in fields for part in field.parts)


def test_a_file_that_cannot_be_written_whole_does_not_appear(tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"the old file")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space left"):
        gguf_file.write(path, random_model(CONFIGS["nothing optional"], seed=3), gguf_file.Card("m"), "TQ1_0")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]
    assert path.read_bytes() == b"the old file"
