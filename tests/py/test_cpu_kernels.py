"""The fused CPU block trains the same model as the plain PyTorch block."""

import copy

import pytest
import torch
from torch import nn

import tiny_run
from lm.arch.hgrnbit import Config
from lm.arch.ternary import BitLinear, RMSNorm
from lm.fast.cpu_kernels import (
    FusedBlock,
    accelerate,
    orthogonalize_all,
    rng_state,
    set_rng_state,
    take_spare,
)
from lm.train.optim import orthogonalize
from make_golden import random_model

CONFIGS = {
    "convolution and bounds": Config(
        hidden=64, recurrent=96, intermediate=80, layers=2, conv_kernel=4, decay_span=100.0
    ),
    "learned bounds and a wide state": Config(
        hidden=32, recurrent=160, intermediate=48, layers=2, conv_kernel=3, lower_bounds=True
    ),
    "no convolution": Config(hidden=48, recurrent=48, intermediate=64, layers=2, conv_kernel=0),
}


@pytest.fixture(params=CONFIGS, ids=lambda name: name.replace(" ", "-"))
def pair(request):
    """The same model twice: plain, fused."""
    plain = random_model(CONFIGS[request.param], seed=4)
    fused = copy.deepcopy(plain)
    assert accelerate(fused) == "fused CPU blocks"
    set_rng_state(1000 * tiny_run.SEED)  # not what the tests before have left
    return plain, fused


def text(batch, time):
    return torch.randint(0, 256, (batch, time + 1), generator=torch.Generator().manual_seed(5))


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize("time", [64, 133, 192])
def test_the_fused_forward_pass_equals_the_plain_one(pair, time):
    plain, fused = pair
    tokens = text(3, time)[:, :-1]
    states = [tuple(torch.randn_like(x) for x in layer) for layer in plain.initial_states(3)]
    expected, expected_states = plain(tokens, states)
    found, found_states = fused(tokens, states)
    # Sums in another order move a few activations to the neighbouring int8 code, 1/127 of the largest one.
    assert relative_error(found, expected) < 0.01
    for got, want in zip(found_states, expected_states):
        for a, b in zip(got, want):
            if b.numel():
                assert relative_error(a, b) < 0.01


def gradients(model, tokens):
    model.zero_grad()
    loss, _, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def compare_gradients(hold, expected, runs):
    """One pass carries the noise of rounding gradients to 8 bits; it is unbiased, so the mean of 16 has a quarter of it."""
    assert len(runs) == 16
    one = {name: relative_error(runs[0][name], want) for name, want in expected.items()}
    mean = {name: torch.stack([run[name] for run in runs]).mean(0) for name in expected}
    many = {name: relative_error(mean[name], want) for name, want in expected.items()}
    for what, apart, limit in (("a pass", one, 0.15), ("the mean of passes", many, 0.03)):
        name = max(apart, key=apart.get)
        hold(f"of a gradient apart in {what}", apart[name], below=limit, where=name)


@pytest.mark.trains
def test_the_fused_gradients_have_the_plain_ones_as_their_mean(pair, hold):
    plain, fused = pair
    tokens = text(3, 128)
    compare_gradients(hold, gradients(plain, tokens), [gradients(fused, tokens) for _ in range(16)])


def through_block(model, h, states, lengths):
    """Output and states of the first block, with the gradients of its input and its parameters for a fixed g_out."""
    block = model.layers[0]
    h = h.clone().requires_grad_()
    block.zero_grad()
    out, *after = model.block_forward(block, h, model.keep_table()[0], *states, lengths)
    g_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(8))
    (out * g_out).sum().backward()
    return out.detach(), after, {"input": h.grad, **{name: p.grad.clone() for name, p in block.named_parameters()}}


LENGTHS = torch.tensor([70, 0, 1, 131, 66])


def ragged(model):
    generator = torch.Generator().manual_seed(7)
    rows, c = len(LENGTHS), model.config
    h = torch.randn(rows, 131, c.hidden, generator=generator)
    state = torch.randn(rows, c.recurrent, generator=generator)
    tail = torch.randn(rows, max(c.conv_kernel - 1, 0), c.hidden, generator=generator)
    return h, (state, tail)


def test_a_row_of_a_ragged_batch_equals_that_row_alone(pair):
    for model in pair:
        h, states = ragged(model)
        out, after, grads = through_block(model, h, states, LENGTHS)
        for b, length in enumerate(LENGTHS.tolist()):
            assert not out[b, length:].any()
            assert not grads["input"][b, length:].any()
            alone_states = [x[b : b + 1] for x in states]
            if length == 0:
                for got, want in zip(after, alone_states):
                    assert torch.equal(got[b : b + 1], want)
                continue
            alone, alone_after, _ = through_block(model, h[b : b + 1, :length], alone_states, None)
            # The plain block multiplies matrices of another size, which sums in another order; see 0.01 above.
            assert relative_error(out[b, :length], alone[0]) < 0.01
            for got, want in zip(after, alone_after):
                if want.numel():
                    assert relative_error(got[b], want[0]) < 0.01


@pytest.mark.trains
def test_the_gradients_of_a_ragged_batch_have_the_plain_ones_as_their_mean(pair, hold):
    plain, fused = pair
    h, states = ragged(plain)
    expected = through_block(plain, h, states, LENGTHS)[2]
    compare_gradients(hold, expected, [through_block(fused, h, states, LENGTHS)[2] for _ in range(16)])


@pytest.fixture
def tiles(pair):
    """A switch: whether the products run on tile registers."""
    switch = FusedBlock.library.use_tiles
    if not switch(1):
        pytest.skip("no AMX here, or no permission to use it: the products run in vectors only")
    yield switch
    switch(1)


@pytest.mark.parametrize("time", [1, 16, 20, 33, 64, 70, 112, 131, 256])
def test_products_on_tiles_equal_those_in_vectors_bit_for_bit(pair, tiles, time):
    _, fused = pair
    h, states = ragged(fused)
    h, states = h.repeat(1, 2, 1)[:1, :time], [x[:1] for x in states]  # one row: the sums have one order
    results, before = [], rng_state()
    for wanted in (1, 0):
        assert tiles(wanted) == wanted
        set_rng_state(before)
        results.append(through_block(fused, h, states, None))
    (out, after, grads), (expected, expected_after, expected_grads) = results
    assert torch.equal(out, expected)
    assert all(torch.equal(got, want) for got, want in zip(after, expected_after))
    for name, want in expected_grads.items():
        assert torch.equal(grads[name], want), name
    assert rng_state() != before and all(x.any() for x in expected_grads.values())


SHAPES = [(256, 256), (1536, 256), (256, 768), (48, 80), (80, 48), (16, 16), (160, 448)]


@pytest.mark.parametrize("decades", [0, 3], ids=["like-noise", "of-small-rank"])
def test_the_steps_of_muon_on_tiles_have_the_singular_values_of_the_plain_ones(tiles, decades):
    generator = torch.Generator().manual_seed(6)
    matrices = []
    for m, n in SHAPES:
        spread = 10 ** torch.linspace(0, -decades, m)  # of the singular values, which training has as well
        matrices.append((torch.randn(m, m, generator=generator) * spread) @ torch.randn(m, n, generator=generator))
    found = orthogonalize_all(matrices)
    for matrix, got in zip(matrices, found):
        want = orthogonalize(matrix)
        assert relative_error(got, want) < 0.04  # bfloat16 has eight bits
        assert float((torch.linalg.svdvals(got) - torch.linalg.svdvals(want)).abs().max()) < 0.02


@pytest.mark.parametrize("pieces", [16, 256, 1000], ids=lambda n: f"of-{n}")
def test_the_fused_cross_entropy_has_the_value_and_the_gradient_of_the_plain_one(pair, pieces):
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(37, pieces, generator=generator) * torch.logspace(-1, 2, 37)[:, None]  # to 100 and beyond
    targets = torch.randint(0, pieces, (37,), generator=generator)
    found = []
    for entropy in (pair[0].cross_entropy, pair[1].cross_entropy):
        x = logits.clone().requires_grad_()
        nats = entropy(x, targets)
        (nats * 3).backward()
        found.append((nats.detach(), x.grad))
    (want, want_gradient), (got, gradient) = found
    assert pair[0].cross_entropy is not pair[1].cross_entropy
    assert relative_error(got, want) < 1e-6
    assert relative_error(gradient, want_gradient) < 1e-5


def test_muon_takes_the_plain_steps_where_the_tiles_cannot(tiles):
    assert orthogonalize_all([torch.ones(16, 24)]) is None
    tiles(0)
    assert orthogonalize_all([torch.ones(16, 16)]) is None


@pytest.mark.parametrize("lengths", [[3, 4], [3, 4, 9], [3, -1, 4]], ids=["too-few", "too-long", "negative"])
def test_lengths_that_do_not_fit_the_batch_are_refused(pair, lengths):
    _, fused = pair
    c = fused.config
    states = [x.expand(3, *x.shape[1:]) for x in fused.initial_states(1)[0]]
    with pytest.raises(ValueError, match="lengths must be 3 numbers from 0 to 8"):
        fused.block_forward(
            fused.layers[0], torch.zeros(3, 8, c.hidden), fused.keep_table()[0], *states, torch.tensor(lengths)
        )


def test_a_restored_random_state_gives_the_same_gradients_again(pair):
    _, fused = pair
    tokens = text(1, 72)  # one row is one thread's work, so that the order of the sums is fixed
    before = rng_state()
    first = gradients(fused, tokens)
    other = gradients(fused, tokens)
    set_rng_state(before)
    again = gradients(fused, tokens)
    name = "layers.0.mlp.down_proj.weight"
    assert not torch.equal(first[name], other[name])
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.fixture(params=[(48, 64), (64, 256)], ids=["48x64", "64x256"])
def head(request):
    """A norm and a ternary layer after it, twice: plain, fused."""
    cols, rows = request.param
    torch.manual_seed(3)
    plain = nn.Sequential(RMSNorm(cols, 1e-6), BitLinear(cols, rows, 1e-6))
    for norm in (plain[0], plain[1].norm):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    fused = copy.deepcopy(plain)
    accelerate(fused)
    assert all("forward" in vars(part) for part in fused)
    return plain, fused


def through_head(model, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(9)) * torch.linspace(0, 1, y.shape[1])[:, None]
    (y * g).sum().backward()
    return y.detach(), {"input": x.grad, **{name: p.grad.clone() for name, p in model.named_parameters()}}


def test_a_fused_norm_and_head_have_the_output_and_the_gradients_of_the_plain_ones(head):
    plain, fused = head
    x = torch.randn(3, 373, plain[0].weight.numel(), generator=torch.Generator().manual_seed(6))
    x[1, 7] = 0  # padding looks like this
    expected, want = through_head(plain, x)
    found, got = through_head(fused, x)
    assert relative_error(found, expected) < 0.003  # sums in another order; see 0.01 above
    for name in want:
        assert relative_error(got[name], want[name]) < 0.003, name


@pytest.mark.parametrize(
    "config",
    [
        Config(hidden=64, recurrent=64, intermediate=64, layers=1, gate_norm="state"),
        Config(hidden=64, recurrent=64, intermediate=64, layers=1, sigmoid="piecewise_linear"),
        Config(hidden=40, recurrent=64, intermediate=64, layers=1),
        Config(hidden=64, recurrent=64, intermediate=64, layers=1, ternary=False),
    ],
    ids=["state-norm", "piecewise", "width-40", "float"],
)
def test_what_the_fused_block_cannot_do_is_left_to_pytorch_with_a_reason_but_norms_and_recurrence(config):
    plain = random_model(config, seed=0)
    other = copy.deepcopy(plain)
    assert accelerate(other).startswith("plain PyTorch blocks, norms and recurrence fused: ")
    assert other.block_forward is plain.block_forward
    tokens = text(3, 133)
    got = gradients(other, tokens)
    for name, gradient in gradients(plain, tokens).items():  # sums in another order move an int8 code of ternary layers
        assert relative_error(got[name], gradient) < (0.05 if config.ternary else 1e-4), name


def test_buffers_are_reused_also_when_every_step_needs_another_size():
    spare = []
    for sizes in ((1000, 300), (900, 310), (1100, 290), (1200, 305), (400, 500)):
        taken = [take_spare(spare, size) for size in sizes]
        assert all(buffer.numel() >= size for buffer, size in zip(taken, sizes))
        assert taken[0].data_ptr() != taken[1].data_ptr()
        spare += taken
    assert len(spare) == 2
    assert sum(buffer.numel() for buffer in spare) < 2000
