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
    convert.write(path, kind, tensors, gguf_file.Card("public"), tokenizer, "TQ1_0", "F16")
    return gguf_file.load(path)


def checkpoint(name):
    """-> kind, tensors, what is stored of the public code: tokens and its logits."""
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    if name == "hgrn_bit":
        kind, tensors = published.of_config_json(stored["config"]), weights.open_file(FOLDER / "hgrn_bit.safetensors")
    else:
        settings, tensors = weights.open_bitmamba(FOLDER / "bitmamba.bin")
        kind = published.of_bitmamba(settings, tensors)
    wanted = torch.tensor(np.array(stored["logits"], np.float32))
    assert wanted.std() > 0.5, "they say something"
    return kind, tensors, stored["tokens"], wanted


@torch.no_grad()
@pytest.mark.parametrize("name", ["hgrn_bit", "bitmamba"])
def test_a_converted_checkpoint_gives_the_logits_of_the_public_code(tmp_path, name):
    kind, tensors, tokens, wanted = checkpoint(name)
    model = through_a_file(kind, tensors, tmp_path / "model.gguf")
    logits, _ = model(torch.tensor([tokens]))
    torch.testing.assert_close(logits[0], wanted, **NEARLY)
    states = model.initial_states(1)
    for token, row in zip(tokens, wanted):
        logits, states = model.step(torch.tensor([token]), states)
        torch.testing.assert_close(logits[0], row, **NEARLY)


@pytest.mark.parametrize("name", ["hgrn_bit", "bitmamba"])
def test_the_integers_predict_what_the_public_code_does(tmp_path, name):
    """The integers are those of spec_reader.py, to which the engine is held bit for bit: it takes any tokens.

    Until an activation rounds to another int8 code the logits agree to 1e-5 of their length; then to a few codes.
    """
    kind, tensors, tokens, wanted = checkpoint(name)
    through_a_file(kind, tensors, tmp_path / "model.gguf")
    model = spec_reader.Model((tmp_path / "model.gguf").read_bytes())
    logits = torch.tensor([model.step(token) for token in tokens]).double() / 65536
    errors = (logits - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert errors.min() < 2e-5
    assert errors.max() < 0.04
    after = torch.tensor(tokens[1:])
    found, expected = (float(F.cross_entropy(rows[:-1].double(), after)) for rows in (logits, wanted))
    assert found == pytest.approx(expected, rel=0.003)
