"""Optimizers and schedules: which parameter gets which learning rate, and when."""

import pytest
import torch

from lm.train.optim import make_optimizers, orthogonalize, schedule
from lm.train.settings import Train
from make_golden import random_model
from tiny_run import TINY


def test_a_model_with_learning_rates_of_its_own_gets_them():
    model = random_model(TINY, seed=0)
    model.lr_multiplier = lambda name: 0.5 if "embeddings" in name or "down_proj.weight" in name else 1.0
    adamw, muon = make_optimizers(model, Train(total_bytes=1, lr=0.2, matrix_lr=0.4))
    rates = {id(p): g["lr"] for o in (adamw, muon) for g in o.param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert len(rates) == len(named)
    assert rates[id(named["embeddings.weight"])] == 0.1
    assert rates[id(named["lm_head.weight"])] == 0.2, "the head is not a matrix of the blocks: AdamW"
    assert rates[id(named["layers.0.mlp.down_proj.weight"])] == 0.2
    assert rates[id(named["layers.0.mlp.gate_proj.weight"])] == 0.4


def test_adamw_alone_decays_the_masters_of_the_ternary_matrices_and_nothing_else():
    model = random_model(TINY, seed=0)
    train = Train(total_bytes=1, lr=0.2, matrix_optimizer="adamw", matrix_weight_decay=0.3)
    (adamw,) = make_optimizers(model, train)
    decays = {id(p): (g["lr"], g["weight_decay"]) for g in adamw.param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert len(decays) == len(named)
    assert decays[id(named["layers.0.attn.i_proj.weight"])] == (0.2, 0.3)
    assert decays[id(named["layers.0.attn.i_proj.norm.weight"])] == (0.2, 0.0)
    assert decays[id(named["lm_head.weight"])] == (0.2, 0.0)


@pytest.mark.parametrize("shape", [(20, 30), (12, 30), (30, 12)], ids=["nearly-square", "wide", "tall"])
def test_an_orthogonalized_matrix_keeps_its_directions_and_levels_their_sizes(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, sizes, vh = torch.linalg.svd(g, full_matrices=False)
    assert sizes.min() / sizes.norm() > 0.05  # smaller ones need more than five steps
    after = (u.t() @ orthogonalize(g) @ vh.t()).diagonal()
    assert ((after > 0.6) & (after < 1.3)).all()  # the quintic iteration ends between 0.7 and 1.2


@pytest.mark.parametrize("shape", [(16, 24), (16, 96), (96, 16)], ids=["nearly-square", "wide", "tall"])
def test_orthogonalizing_is_five_steps_on_each_singular_value(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(g, full_matrices=False)
    sizes = torch.logspace(0, -6, 16, dtype=torch.float64)  # badly conditioned, as gradients are
    found = orthogonalize((u * sizes @ vh).float()).double()
    s = sizes / sizes.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    expected = u * s @ vh
    # float32: the smallest singular values, 1e-6 of the largest, are lost in the rounding of the others.
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def factors(train, *bytes_seen):
    return [schedule(seen, train) for seen in bytes_seen]


def test_wsd_warms_up_stays_and_falls_in_a_line():
    train = Train(total_bytes=1000, warmup_bytes=100, decay_bytes=200)
    assert factors(train, 49, 99, 500, 800, 900, 1000) == pytest.approx([0.5, 1, 1, 1, 0.5, 0])


def test_a_short_run_without_a_schedule_of_its_own_reaches_its_rate_and_ends_at_zero():
    assert factors(Train(total_bytes=60_000), 600, 1200, 30_000, 45_000, 60_000) == pytest.approx(
        [0.5, 1, 1, 0.5, 0], abs=1e-3
    )


def test_cosine_warms_up_and_falls_to_the_final_factor():
    train = Train(total_bytes=1100, warmup_bytes=100, schedule="cosine", final_factor=0.1)
    assert factors(train, 49, 100, 600, 1100) == pytest.approx([0.5, 1, 0.55, 0.1])
    falling = factors(train, *range(100, 1101, 50))
    assert falling == sorted(falling, reverse=True)


def test_a_schedule_ends_where_the_final_factor_says():
    train = Train(total_bytes=1000, warmup_bytes=0, decay_bytes=1000, final_factor=0.2)
    assert factors(train, 0, 500, 1000) == pytest.approx([1, 0.6, 0.2])
