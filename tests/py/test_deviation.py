"""The report about integers against float: equal inputs, equal formulas, and every operation is there."""

import json
import subprocess
import sys

import pytest
import torch

from conftest import ROOT
from lm import deviation, gguf_file
from lm.arch.hgrnbit import BOS
from make_golden import run_engine

GOLDEN = ROOT / "tests" / "golden"
TEXT = ROOT / "tests" / "data" / "stories.txt"
NAMES = ["tiny_gate", "tiny_state"]


@pytest.mark.parametrize("name", NAMES)
def test_the_trace_is_what_the_engine_computes(name):
    text = TEXT.read_bytes()[:40]
    blocks, head = deviation.engine_trace(GOLDEN / f"{name}.gguf", TEXT, 40)
    golden = run_engine(
        deviation.TRACE.with_name("tern_golden"), GOLDEN / f"{name}.gguf", text, "--trace", "--all-logits"
    )
    assert torch.equal(head["logits"] * 65536, torch.tensor(golden["all_logits"]).double())
    for n, block in enumerate(blocks):
        assert torch.equal(block["out"] * 65536, torch.tensor(golden["trace"])[:, n].double())
        assert torch.equal(block["h1"], block["in"] + block["mixed"])
        assert torch.equal(block["out"], block["h1"] + block["down"])


@pytest.mark.parametrize("name", NAMES)
def test_operation_by_operation_is_the_forward_pass(name):
    model = gguf_file.load(GOLDEN / f"{name}.gguf")
    tokens, seen = torch.tensor([BOS, *b"One day, "]), []
    logits = deviation.run_model(model, tokens, lambda part, name, value: seen.append((part, name)) or value)
    assert torch.allclose(logits, model(tokens[None])[0][0], rtol=1e-4, atol=1e-4)
    blocks, head = deviation.engine_trace(GOLDEN / f"{name}.gguf", TEXT, 1)
    in_trace = {(n, o) for n, block in enumerate(blocks) for o in block if o != "in" or n == 0} | {
        (-1, o) for o in head
    }
    assert set(seen) == in_trace, "every operation of the trace is compared"


@pytest.mark.parametrize("name", NAMES)
def test_given_equal_inputs_an_operation_differs_by_rounding_alone(name):
    """Half of all results are within one step of Q16.16 (mean abs of a rounding: a quarter step), the head within two.

    BitLinears differ by more where an activation fell to the other side of an int8 code; hence the median.
    """
    report = deviation.analyse(GOLDEN / f"{name}.gguf", TEXT, 60)
    for place in report["places"]:
        assert place["median"] <= (4 if place["operation"] == "logits" else 1) / 65536, place
        assert place["relative"] < 0.003, place
        assert place["magnitude"] > 0, place
    accumulated = {p["block"]: p["accumulated"] for p in report["places"] if p["operation"] == "out"}
    assert accumulated[2] > accumulated[0] > 0


def test_with_the_engines_own_norm_weights_the_ternary_layers_only_round_their_results():
    """A rounding to Q16.16 has a mean of a quarter step; here and there still an int8 code differs."""
    path = GOLDEN / "tiny_gate.gguf"
    found = [deviation.analyse(path, TEXT, 60, engine_weights=known)["operations"] for known in (False, True)]
    other, same = ({o["operation"]: o["alone"] for o in operations} for operations in found)
    assert sum(same[name] for name in "ifg") < 0.5 * sum(other[name] for name in "ifg")
    assert same["logits"] < 0.5 / 65536 < other["logits"]


def test_the_report_ranks_and_says_so(tmp_path):
    words = [sys.executable, ROOT / "scripts" / "deviation.py", "--model", GOLDEN / "tiny_gate.gguf", "--text", TEXT]
    done = subprocess.run(
        [*words, "--bytes", "24", "--out", tmp_path / "r.json"], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert {o["operation"] for o in report["operations"]} == set(deviation.OPERATIONS)
    for ranked in (report["operations"], report["places"]):
        shares = [entry["relative"] for entry in ranked]
        assert shares == sorted(shares, reverse=True)
    assert done.stdout.strip() == deviation.tables(report)


def test_a_model_or_text_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "no.gguf").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"no\.gguf"):
        deviation.analyse(tmp_path / "no.gguf", TEXT, 8)
    with pytest.raises(ValueError, match=r"missing\.txt"):
        deviation.analyse(GOLDEN / "tiny_gate.gguf", tmp_path / "missing.txt", 8)
