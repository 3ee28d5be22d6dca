"""The engine reproduces the golden files bit for bit, and stays close to float32 at every layer.

How far it is from float32: pytest tests/py/test_golden.py -k float -s
"""

import hashlib
import json

import numpy as np
import pytest
import torch

import make_golden
from conftest import NATIVE, ROOT
from lm import gguf_file
from lm.arch.hgrnbit import BOS

GOLDEN = ROOT / "tests" / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json") if not path.stem.endswith(".float"))


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def test_every_model_that_should_have_golden_files_has_them():
    shipped = make_golden.shipped_model()
    assert set(NAMES) == {*make_golden.MODELS, *([shipped.stem] if shipped else [])}


@pytest.mark.parametrize("program", ["tern_golden", "tern_golden_scalar"])
@pytest.mark.parametrize("name", NAMES)
def test_the_engine_computes_exactly_what_the_golden_file_says(name, program):
    expected = golden(name)
    model = ROOT / expected["model"]
    assert hashlib.sha256(model.read_bytes()).hexdigest() == expected["sha256"]
    prompt, scored = (bytes.fromhex(text) for text in (expected["prompt"], expected["score"]["text"]))
    assert make_golden.engine_golden(NATIVE / program, model, prompt, scored) == expected


def test_the_programs_that_are_compared_use_different_kernels():
    model = GOLDEN / "tiny_gate.gguf"
    kernels = {
        p: make_golden.run_engine(NATIVE / p, model, b"a")["kernel"] for p in ("tern_golden", "tern_golden_scalar")
    }
    assert kernels["tern_golden_scalar"] == "scalar"
    assert kernels["tern_golden"] != "scalar"


@pytest.mark.parametrize("name", make_golden.MODELS)
def test_the_engine_is_within_tolerance_of_float_at_every_layer(name):
    expected = json.loads((GOLDEN / f"{name}.float.json").read_text())
    prompt = bytes.fromhex(golden(name)["prompt"])
    engine = make_golden.run_engine(NATIVE / "tern_golden", GOLDEN / f"{name}.gguf", prompt, "--trace", "--all-logits")
    trace = np.array(engine["trace"])[expected["positions"]] / 65536  # [position][layer][width]
    logits = np.array(engine["all_logits"])[expected["positions"]] / 65536

    def error(found, wanted):
        return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))

    errors = [error(trace[:, n], np.array(layer)) for n, layer in enumerate(expected["layers"])]
    head = error(logits, np.array(expected["logits"]))
    print(f"\n{name}: layers {' '.join(f'{e:.2%}' for e in errors)}, logits {head:.2%}")
    for n, (found, limit) in enumerate(zip(errors, expected["tolerance"]["layers"], strict=True)):
        assert found <= limit, f"block {n} is off by {found:.3%}, allowed {limit:.3%}"
    assert head <= expected["tolerance"]["logits"]


@torch.no_grad()
@pytest.mark.parametrize("name", make_golden.MODELS)
def test_a_block_of_the_engine_differs_from_the_same_block_in_float_only_by_rounding(name):
    """Each block in PyTorch gets what the engine's block got, so that deviations do not add up.

    At most positions no int8 code differs and the outputs agree to about 1e-5 of their length (Q16.16 has 1e-5 of a
    unit). Where a code differs, the output may be off by a few codes; in the recurrent state that can last, so the
    limit of exactness is asked of a quarter of the positions.
    """
    prompt = bytes.fromhex(golden(name)["prompt"])
    path = GOLDEN / f"{name}.gguf"
    engine = make_golden.run_engine(NATIVE / "tern_golden", path, prompt, "--trace", "--all-logits")
    trace, logits = (torch.tensor(engine[key]).double().div(65536).float() for key in ("trace", "all_logits"))
    model = gguf_file.load(path)

    def check(what, found, wanted):
        errors = (found - wanted).norm(dim=1) / wanted.norm(dim=1)  # per position
        quarter, worst = errors.quantile(0.25), errors.max()
        print(
            f"\n{name} {what}: {errors.median():.4%} at half of the positions, {quarter:.4%} at a quarter, worst {worst:.2%}"
        )
        assert quarter < 1e-4, what
        assert worst < 0.03, what

    h = model.embeddings(torch.tensor([[BOS, *prompt]]))
    for n, (layer, keep, states) in enumerate(zip(model.layers, model.keep_table(), model.initial_states(1))):
        wanted, _, _ = layer(h, keep, *states)
        check(f"block {n}", trace[:, n], wanted[0])
        h = trace[None, :, n]
    check("head", logits, model.lm_head(model.norm(h))[0])


@pytest.mark.parametrize("name", make_golden.MODELS)
def test_the_float_file_is_what_pytorch_computes_from_the_model_file(name):
    stored = json.loads((GOLDEN / f"{name}.float.json").read_text())
    model = gguf_file.load(GOLDEN / f"{name}.gguf")
    now = make_golden.float_golden(model, bytes.fromhex(golden(name)["prompt"]))
    assert now["positions"] == stored["positions"]
    for key in ("layers", "logits"):
        found, wanted = torch.tensor(now[key]), torch.tensor(stored[key])
        assert found.shape == wanted.shape
        assert float((found - wanted).norm() / wanted.norm()) < 0.01  # another machine sums in another order


def test_the_generations_cover_both_ways_to_finish_and_differ():
    made = [generation for name in NAMES for generation in golden(name)["generations"]]
    assert {generation["finish"] for generation in made} == {"max_bytes", "end_of_text"}
    for name in make_golden.MODELS:
        outputs = [generation["bytes"] for generation in golden(name)["generations"]]
        assert len(set(outputs)) >= len(outputs) - 1, "options that change nothing test nothing"
