"""The hierarchical PyTorch model: streaming equals the parallel pass, windows join, routers are watched, settings checked."""

import warnings
from dataclasses import replace

import pytest
import torch

from conftest import ROOT
from lm import arch
from lm.arch.hnetbit import Config, HNetBit, RouterWatch, chunks, map_states, ratio_loss, smooth
from lm.fast.cpu_kernels import accelerate
from lm.train.settings import Run
from make_golden import random_model

ONE = Config(hidden=(24, 40), recurrent=(32, 48), intermediate=(40, 56), router=(16,), conv_kernel=3)
TWO = Config(
    hidden=(24, 40, 40),
    recurrent=(24, 40, 48),
    intermediate=(32, 48, 56),
    encoder=(2, 1),
    decoder=(1, 2),
    layers=1,
    router=(24, 16),
    target=(3.0, 2.0),
    lr_multiplier=(1.0, 0.8, 0.5),
    decay_span=(0.0, 0.0, 0.0),
    conv_kernel=0,
)
# Two float paths may differ in the last bits of a sum, and then one activation in many rounds to the next int8 code.
NEARLY = {"rtol": 0.0, "atol": 0.05}


@pytest.fixture(params=[ONE, TWO], ids=["one-stage", "two-stages"])
def model(request):
    return random_model(request.param, seed=3)


@pytest.fixture
def tokens():
    """Three rows, of which the last has long runs of one byte, where no chunk begins for many positions."""
    rows = torch.randint(0, 256, (3, 60), generator=torch.Generator().manual_seed(2))
    rows[2, 4:50] = rows[2, 4]
    return rows


@torch.no_grad()
def stream(model, tokens):
    """Byte by byte: logits [B,T,V], per stage where its chunk changed [B,T], rows that went into each level, states."""
    states, logits, changed, rows = model.initial_states(tokens.shape[0]), [], [], [0] * (len(model.stages) + 1)
    step_level = model.step_level

    def counting(s, x, states):
        rows[s] += x.shape[0]
        return step_level(s, x, states)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "step_level", counting)
        for t in range(tokens.shape[1]):
            before = states
            out, states = model.step(tokens[:, t], states)
            logits.append(out)
            changed.append([(old[2] != new[2]).any(1) for old, new in zip(before[:-1], states[:-1])])
    return torch.stack(logits, 1), [torch.stack(stage, 1) for stage in zip(*changed)], rows, states


def at_bytes(notes):
    """The boundaries of every stage at the positions of bytes, [B,T] each; inner ones where their chunk of bytes began."""
    found = [notes[0]["boundary"]]
    for note in notes[1:]:
        here = torch.zeros_like(found[0])
        for row, outer, inner in zip(here, found[-1], note["boundary"]):
            where = outer.nonzero()[:, 0]
            row[where] = inner[: len(where)]
        found.append(here)
    return found


def assert_states_close(found, expected):
    def compare(a, b):
        torch.testing.assert_close(a.float(), b.float(), **NEARLY)
        return a

    map_states(compare, found, expected)


def test_stepping_byte_by_byte_equals_the_parallel_pass_boundaries_and_all(model, tokens):
    with torch.no_grad():
        parallel, final, notes = model.trace(tokens)
    stepped, changed, _, states = stream(model, tokens)
    for s, (found, expected) in enumerate(zip(changed, at_bytes(notes), strict=True)):
        assert torch.equal(found, expected), f"boundaries of stage {s}"
        counts = expected.sum(1).tolist()
        assert len(set(counts)) > 1, f"the rows should differ in their number of boundaries: {counts}"
    torch.testing.assert_close(stepped, parallel, **NEARLY)
    assert_states_close(states, final)


def test_an_inner_level_runs_for_the_rows_with_a_boundary_only(model, tokens):
    _, changed, rows, _ = stream(model, tokens)
    assert rows == [tokens.numel(), *(int(stage.sum()) for stage in changed)]
    assert 0 < rows[1] < rows[0]


@torch.no_grad()
@pytest.mark.parametrize("cuts", [[17], [1, 2, 30], [8, 20, 40, 41]], ids=str)
def test_a_text_in_windows_with_the_state_carried_over_equals_the_whole_text(model, tokens, cuts):
    whole, final, notes = model.trace(tokens)
    parts, states, boundaries = [], None, []
    for window in torch.tensor_split(tokens, cuts, 1):
        logits, states, inside = model.trace(window, states)
        parts.append(logits)
        boundaries.append(at_bytes(inside))
    for s, expected in enumerate(at_bytes(notes)):
        assert torch.equal(torch.cat([window[s] for window in boundaries], 1), expected), f"boundaries of stage {s}"
    if cuts == [8, 20, 40, 41]:
        empty = [not row.any() for window in boundaries for stage in window for row in stage]
        assert any(empty), "some row should have a window without a boundary"
    torch.testing.assert_close(torch.cat(parts, 1), whole, **NEARLY)
    assert_states_close(states, final)


@torch.no_grad()
def test_a_row_is_computed_as_if_it_were_alone(model, tokens):
    together, _ = model(tokens)
    for row, expected in zip(tokens, together):
        torch.testing.assert_close(model(row[None])[0][0], expected, **NEARLY)


@torch.no_grad()
def test_a_byte_changes_no_prediction_before_it_and_the_one_right_after_it(model, tokens):
    before, _ = model(tokens)
    changed = tokens.clone()
    changed[:, 20] ^= 1
    after, _ = model(changed)
    torch.testing.assert_close(after[:, :20], before[:, :20], **NEARLY)
    assert (after[:, 20] - before[:, 20]).abs().amax() > 0.2


@torch.no_grad()
@pytest.mark.parametrize("time", range(52, 61, 2))
def test_the_fused_blocks_compute_the_same_with_chunks_of_any_number(tokens, time):
    tokens = tokens[:, :time]
    config = Config(hidden=(32, 48), recurrent=(32, 64), intermediate=(48, 64), router=(16,))
    plain, fused = random_model(config, seed=5), random_model(config, seed=5)
    assert accelerate(fused) == "fused CPU blocks"
    expected, expected_states, notes = plain.trace(tokens)
    found, found_states, fused_notes = fused.trace(tokens)
    assert torch.equal(fused_notes[0]["boundary"], notes[0]["boundary"])
    torch.testing.assert_close(found, expected, **NEARLY)
    assert_states_close(found_states, expected_states)


def test_every_parameter_gets_a_gradient_and_the_router_one_from_the_prediction_alone(model, tokens):
    loss, _, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if parameter.numel():
            assert parameter.grad.abs().sum() > 0, name
    model.zero_grad()
    model(tokens)[0].square().mean().backward()
    for stage in model.stages:
        assert stage.router_q.weight.grad.abs().sum() > 0


def test_the_loss_reports_nats_and_the_boundaries_of_every_stage(model, tokens):
    loss, _, statistics = model.loss(tokens[:, :-1], tokens[:, 1:])
    with torch.no_grad():
        logits, _, notes = model.trace(tokens[:, :-1])
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(statistics["nats"], nats, rtol=1e-3, atol=0)
    expected = float(statistics["nats"])
    positions = tokens[:, :-1].numel()
    for s, (note, target) in enumerate(zip(notes, model.config.target)):
        share = int(note["boundary"].sum()) / positions
        assert statistics[f"boundaries_{s}"] == pytest.approx(share)
        assert statistics[f"chunk_{s}"] == pytest.approx(1 / share)
        assert 0 < statistics[f"probability_{s}"] < 1
        probability = torch.tensor(statistics[f"probability_{s}"])
        expected += model.config.ratio_weight * float(ratio_loss(torch.tensor(share), probability, target))
        positions = int(note["boundary"].sum())
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_fresh_model_copies_its_input_to_the_router_and_adds_nothing_to_the_chunks():
    stage = HNetBit(TWO).stages[1]
    e = torch.randn(5, 40)
    started = HNetBit(replace(TWO, residual_start=0.5)).stages[1]
    torch.testing.assert_close(started.residual(e), e / 2, rtol=0, atol=float(e.abs().max()) / 254)
    for router in (stage.router_q, stage.router_k):
        torch.testing.assert_close(router(e), e[:, :16], rtol=0, atol=float(e.abs().max()) / 127)
    assert not stage.residual(e).any()


@pytest.mark.parametrize("target", [2.0, 4.5])
def test_the_ratio_loss_is_1_at_the_target_and_pulls_the_probability_towards_it(target):
    def slope(share):
        mean = torch.tensor(share, requires_grad=True)
        ratio_loss(torch.tensor(share), mean, target).backward()
        return float(mean.grad)

    assert float(ratio_loss(torch.tensor(1 / target), torch.tensor(1 / target), target)) == pytest.approx(1)
    assert slope(1.5 / target) > 0 > slope(0.5 / target)


def test_chunks_lists_the_boundaries_of_rows_with_different_numbers_of_them():
    boundary = torch.tensor([[1, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]]).bool()
    index, count, so_far = chunks(boundary)
    assert index.tolist() == [[0, 2, 3, 4, 5], [0] * 5, [1, 4, 0, 0, 0]]
    assert count.tolist() == [5, 0, 2]
    assert so_far.tolist() == [[1, 1, 2, 3, 4, 5], [0] * 6, [0, 1, 1, 1, 2, 2]]


def test_a_window_without_any_boundary_gives_one_row_of_padding():
    index, count, _ = chunks(torch.zeros(2, 5, dtype=torch.bool))
    assert index.tolist() == [[0], [0]] and count.tolist() == [0, 0]


def test_smoothing_is_a_moving_average_that_padding_leaves_alone():
    y, z = torch.tensor([[[8.0], [4.0], [99.0]]]), torch.tensor([[2.0]])
    found = smooth(y, torch.tensor([[0.5, 0.25, 0.7]]), torch.tensor([2]), z)
    torch.testing.assert_close(found, torch.tensor([[[2.0], [5.0], [4.75], [4.75]]]))
    clamped = smooth(y, torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([3]), z)
    torch.testing.assert_close(clamped[0, 1:, 0], torch.tensor([7.9994, 7.9990, 8.0081]))


@pytest.mark.parametrize(("share", "found"), [(0.01, "almost no boundaries"), (1.0, "boundaries almost everywhere")])
def test_a_collapsed_router_is_reported_with_advice_and_a_healthy_one_is_not(share, found):
    watch = RouterWatch(0, target=4.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(10 * RouterWatch.PATIENCE):
            watch.see(0.3 if step % RouterWatch.PATIENCE == 0 else share)
        watch.see(0.2)
        for _ in range(RouterWatch.PATIENCE - 1):
            watch.see(share)
    with pytest.warns(UserWarning, match=rf"stage 0 has collapsed: {found} for 50 steps.*model\.ratio_weight"):
        watch.see(share)


def test_training_steps_feed_the_watches(model, tokens):
    seen = []
    for watch in model.watches:
        watch.see = seen.append
    _, _, statistics = model.loss(tokens[:, :-1], tokens[:, 1:])
    assert seen == [statistics[f"boundaries_{s}"] for s in range(len(model.stages))]


def test_the_settings_survive_a_checkpoint_and_a_toml_file():
    stored = arch.config_to_dict(TWO)
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in stored.items()}
    assert arch.config_from_dict(stored) == arch.config_from_dict(lists) == TWO
    assert isinstance(arch.build(TWO), HNetBit)


CONFIGS = sorted((ROOT / "scripts" / "configs").glob("*-hnet-*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_wastes_no_padding_and_can_use_the_fused_blocks(path):
    config = Run.read(path).model
    assert config.architecture == "hnetbit"
    assert not [w for widths in (config.hidden, config.recurrent, config.intermediate) for w in widths if w % 256]


def test_each_level_has_its_own_learning_rate_and_routers_a_factor_of_theirs():
    model = HNetBit(replace(TWO, router_lr=3.0))
    expected = {"embeddings.": 1.0, "lm_head.": 1.0, "stages.0.": 1.0, "stages.1.": 0.8, "main.": 0.5}
    for name, _ in model.named_parameters():
        factor = 3.0 if "router" in name else 1.0
        assert model.lr_multiplier(name) == factor * next(v for k, v in expected.items() if name.startswith(k)), name


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"hidden": [64, 48]}, r"model\.hidden must not decrease.*\[64, 48\]"),
        ({"hidden": [64]}, r"model\.hidden needs at least two levels"),
        ({"intermediate": [64]}, r"model\.intermediate needs 2 entries"),
        ({"target": [4.0, 4.0]}, r"model\.target needs 1 entries"),
        ({"target": [0.9]}, r"model\.target.*above 1"),
        ({"encoder": [0]}, r"model\.encoder must be at least 1"),
        ({"router": [193]}, r"model\.router must be at most .* 192, found 193"),
        ({"recurrent": [0, 64]}, r"model\.recurrent must be at least 1"),
        ({"layers": 0}, r"model\.layers must be at least 1"),
        ({"conv_kernel": 9}, r"model\.conv_kernel"),
        ({"decay_span": [16.0, 0.0]}, r"model\.decay_span"),
        ({"ratio_weight": -1.0}, r"model\.ratio_weight"),
        ({"lr_multiplier": [1.0, -0.5]}, r"model\.lr_multiplier"),
        ({"lower_bounds": True}, r"model\.lower_bounds is not a setting of hnetbit"),
        ({"hidden": 64}, r"model\.hidden must be a list"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_refused_by_name(settings, fault):
    with pytest.raises(ValueError, match=fault):
        Config.from_dict(settings)
