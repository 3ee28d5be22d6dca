"""The PyTorch model: streaming equals the parallel pass, the future is invisible, settings are checked."""

import pytest
import torch

from lm.arch.hgrnbit import Config
from make_golden import random_model

CONFIGS = [
    Config(hidden=32, recurrent=64, intermediate=48, layers=2, conv_kernel=4, lower_bounds=True),
    Config(hidden=32, recurrent=32, intermediate=48, layers=2, conv_kernel=0, gate_norm="state"),
    Config(hidden=32, recurrent=32, intermediate=48, layers=2, conv_kernel=2, sigmoid="piecewise_linear"),
    Config(hidden=32, recurrent=32, intermediate=48, layers=2, conv_kernel=3, decay_span=50.0),
]


@pytest.fixture(params=CONFIGS, ids=["bounds", "no-conv-state-norm", "piecewise", "decay-span"])
def model(request):
    return random_model(request.param, seed=1)


@pytest.fixture
def tokens():
    return torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(2))


# Two float paths may differ in the last bits of a sum, and then one activation in many rounds to the next int8 code:
# up to 1/254 of the largest activation. Outputs have magnitude 1; a wrong state or a wrong tap is off by about 1.
NEARLY = {"rtol": 0.0, "atol": 0.05}


@torch.no_grad()
def test_stepping_byte_by_byte_equals_the_parallel_pass(model, tokens):
    parallel, final = model(tokens)
    states = model.initial_states(tokens.shape[0])
    for t in range(tokens.shape[1]):
        logits, states = model.step(tokens[:, t], states)
        torch.testing.assert_close(logits, parallel[:, t], **NEARLY)
    for stepped, whole in zip(states, final):
        torch.testing.assert_close(stepped, whole, **NEARLY)


@torch.no_grad()
def test_a_text_in_two_parts_with_the_state_carried_over_equals_the_whole_text(model, tokens):
    whole, _ = model(tokens)
    first, states = model(tokens[:, :17])
    second, _ = model(tokens[:, 17:], states)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, **NEARLY)


@torch.no_grad()
def test_a_byte_changes_no_prediction_before_it_and_the_one_right_after_it(model, tokens):
    before, _ = model(tokens)
    changed = tokens.clone()
    changed[:, 20] ^= 1
    after, _ = model(changed)
    torch.testing.assert_close(after[:, :20], before[:, :20], **NEARLY)
    assert (after[:, 20] - before[:, 20]).abs().amax() > 0.2


@torch.no_grad()
def test_the_lower_bounds_keep_part_of_the_state(tokens):
    bounded = random_model(CONFIGS[0], seed=1)
    keep = bounded.keep_table()
    assert torch.equal(keep[0], torch.ones_like(keep[0])), "the first block has no bound"
    assert ((keep[1:] > 0) & (keep[1:] < 1)).all()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layers", 0),
        ("hidden", -1),
        ("conv_kernel", 1),
        ("conv_kernel", 9),
        ("gate_norm", "both"),
        ("sigmoid", "hard"),
        ("lower_bound", True),
    ],
)
def test_a_wrong_setting_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}\b"):
        Config.from_dict({setting: value})


def test_learned_and_fixed_bounds_together_are_refused():
    with pytest.raises(ValueError, match="exclude each other"):
        Config(lower_bounds=True, decay_span=10.0)
