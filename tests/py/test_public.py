"""The PyTorch models and the integers compute what the public code does: its numbers for small random checkpoints, stored
(tests/data/README.md).
"""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import spec_reader
from conftest import ROOT
from lm.arch.ternary import weight_codes
from lm.file import convert, gguf_file, published, weights

FOLDER = ROOT / "tests" / "data" / "public"
# The files of the checkpoints, their scales and embeddings included, are exact in a model file, and no activation of
# these texts lies so near to the middle of two int8 codes that the order of a sum decides. So only float32 is left.
NEARLY = {"rtol": 0.0, "atol": 1e-4}


def through_a_file(kind, tensors, path):
    """The PyTorch model of the converted checkpoint."""
    pieces = kind.config.vocab_size
    tokenizer = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.tokens": [chr(0x4E00 + n) for n in range(pieces)],
        "tokenizer.ggml.token_type": [1] * pieces,
    }
    embedding = "I8" if kind.config.architecture == "bitnet" else "F16"
    convert.write(path, kind, tensors, gguf_file.Card("public"), tokenizer, "TQ1_0", embedding)
    return gguf_file.load(path)


def checkpoint(name):
    """-> kind, tensors, what is stored of the public code: tokens, positions and its logits there."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if name == "bitmamba":
        settings, tensors = weights.open_bitmamba(FOLDER / "bitmamba.bin")
        kind = published.of_bitmamba(settings, tensors)
    else:
        kind, tensors = published.of_config_json(stored["config"]), weights.open_file(FOLDER / f"{name}.safetensors")
    wanted = torch.tensor(np.array(stored["logits"], np.float32))
    assert wanted.std() > 0.5, "they say something"
    return kind, tensors, stored["tokens"], stored.get("positions", range(len(stored["tokens"]))), wanted


@torch.no_grad()
@pytest.mark.parametrize("name", ["hgrn_bit", "bitmamba", "bitnet", "falcon_e"])
def test_a_converted_checkpoint_gives_the_logits_of_the_public_code(tmp_path, name):
    kind, tensors, tokens, positions, wanted = checkpoint(name)
    model = through_a_file(kind, tensors, tmp_path / "model.gguf")
    logits, _ = model(torch.tensor([tokens]))
    torch.testing.assert_close(logits[0][list(positions)], wanted, **NEARLY)
    states, rows = model.initial_states(1), dict(zip(positions, wanted))
    for position, token in enumerate(tokens):
        logits, states = model.step(torch.tensor([token]), states)
        if position in rows:
            torch.testing.assert_close(logits[0], rows[position], **NEARLY)


@pytest.mark.parametrize("name", ["hgrn_bit", "bitmamba"])
def test_the_integers_predict_what_the_public_code_does(tmp_path, name):
    """The integers are those of spec_reader.py, to which the engine is held bit for bit: it takes any tokens.

    Until an activation rounds to another int8 code the logits agree to 1e-5 of their length; then to a few codes.
    """
    kind, tensors, tokens, _, wanted = checkpoint(name)
    through_a_file(kind, tensors, tmp_path / "model.gguf")
    model = spec_reader.Model((tmp_path / "model.gguf").read_bytes())
    logits = torch.tensor([model.step(token) for token in tokens]).double() / 65536
    errors = (logits - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert errors.min() < 2e-5
    assert errors.max() < 0.04
    after = torch.tensor(tokens[1:])
    found, expected = (float(F.cross_entropy(rows[:-1].double(), after)) for rows in (logits, wanted))
    assert found == pytest.approx(expected, rel=0.003)


@pytest.mark.parametrize("name", ["bitnet", "falcon_e"])
def test_the_integers_predict_what_attention_of_the_public_code_does(tmp_path, name):
    """The public code rounds neither keys nor values: int8 codes are some 0.4 % of their largest number off, at every
    position."""
    kind, tensors, tokens, positions, wanted = checkpoint(name)
    through_a_file(kind, tensors, tmp_path / "model.gguf")
    model = spec_reader.Model((tmp_path / "model.gguf").read_bytes())
    logits = torch.tensor([model.step(token) for token in tokens]).double()[list(positions)] / 65536
    errors = (logits - wanted).norm(dim=1) / wanted.norm(dim=1)
    print(f"\n{name}: {errors.mean():.2%} off, {errors.max():.2%} at most")
    assert errors.mean() < 0.03
    after = torch.tensor([tokens[position + 1] for position in positions[:-1]])
    found, expected = (float(F.cross_entropy(rows[:-1].double(), after)) for rows in (logits, wanted))
    assert found == pytest.approx(expected, rel=0.003)


def edited(name, changes):
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return published.of_config_json(stored["config"] | changes)


@pytest.mark.parametrize(
    ("name", "quantization", "factor"),
    [
        ("bitnet", {"linear_class": "autobitlinear"}, 1),
        ("bitnet", {"linear_class": "bitlinear"}, -1),
        ("bitnet", {}, -1),
        ("falcon_e", {}, -1),
    ],
)
def test_the_class_of_the_matrices_says_whether_their_scale_multiplies_or_divides(name, quantization, factor):
    kind = edited(name, {"quantization_config": {"quant_method": "bitnet", **quantization}})
    tensors = weights.open_file(FOLDER / f"{name}.safetensors")
    matrix = "model.layers.1.mlp.up_proj.weight"
    codes, scale = kind.prepare(tensors)[matrix].load()
    stored = float(tensors[f"{matrix}_scale"].load())
    assert scale == pytest.approx(stored**factor)
    packed = tensors[matrix].load()
    assert codes.shape == (4 * packed.shape[0], packed.shape[1])
    assert (packed.numpy() >> 4 & 3 == codes[2 * packed.shape[0] : 3 * packed.shape[0]] + 1).all(), "rows r of part 2"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"quantization_config": {"quant_method": "bitnet", "linear_class": "other"}},
            "linear_class is 'other'.*salad",
        ),
        ({"quantization_config": {"quant_method": "bitnet", "use_rms_norm": True}}, "use_rms_norm is true"),
        ({"quantization_config": {"quant_method": "gptq"}}, "model_type is 'llama'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "the rotation is scaled"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_theta": 0}, "rope_theta is 0"),
        ({"num_attention_heads": None}, "num_attention_heads is None"),
    ],
)
def test_a_bitnet_setting_that_is_not_computed_here_is_refused_by_name(changes, fault):
    with pytest.raises(ValueError, match=fault):
        edited("falcon_e", changes)


def test_a_packed_matrix_without_scale_or_with_a_wrong_code_is_named(tmp_path):
    kind, tensors, *_ = checkpoint("bitnet")
    matrix = "model.layers.0.self_attn.q_proj.weight"
    with pytest.raises(ValueError, match=rf"{matrix} is packed; expected its scale"):
        kind.prepare({name: weight for name, weight in tensors.items() if name != f"{matrix}_scale"})
    wrong = tensors | {matrix: weights.Weight(tensors[matrix].shape, lambda: torch.full((8, 32), 255), floating=False)}
    with pytest.raises(ValueError, match=rf"{matrix} has the code 3"):
        kind.prepare(wrong)[matrix].load()


def test_masters_become_the_codes_and_scales_that_they_were_trained_with(tmp_path):
    """As the published bf16 repository has them; one whose weights are near 1e-34 is a matrix of zeros there, too."""
    kind, tensors, *_ = checkpoint("bitnet")
    prepared = kind.prepare(tensors)
    random = torch.Generator().manual_seed(1)
    masters, tiny = {}, "model.layers.0.self_attn.v_proj.weight"
    for name, weight in prepared.items():
        size = 1e-34 if name == tiny else 0.02
        values = torch.randn(weight.shape, generator=random) * size if weight.packed else None
        masters[name] = weights.Weight(weight.shape, weight.load if values is None else lambda v=values: v.bfloat16())
    model = through_a_file(kind, masters, tmp_path / "model.gguf")
    for name, parameter in model.named_parameters():
        their = kind.their_name(name)
        if not prepared[their].packed:
            continue
        codes, scale = weight_codes(parameter)
        master = masters[their].load().float()
        wanted = float(master.abs().mean().clamp(min=1e-5))
        assert torch.equal(codes.float(), (master / wanted).round().clamp(-1, 1)), name
        assert their == tiny or scale == pytest.approx(wanted, rel=2**-11)
