"""Every fast version of the recurrence gives the values and the gradients of the plain loop."""

import importlib.util

import pytest
import torch

from lm.arch.scan import CHUNK, FEW, LinearScan, fastest, linear_chunked, scan, scan_loop, scan_with

THREADS = 1  # small tensors
VERSIONS = [("chunked", "cpu")]
if torch.cuda.is_available():  # without a GPU there is nothing to ask of these
    VERSIONS.append(("chunked", "cuda"))
    if importlib.util.find_spec("triton"):
        VERSIONS.append(("triton", "cuda"))


def version(name):
    if name == "chunked":
        return linear_chunked
    from lm.arch.scan_triton import linear_triton

    return linear_triton


def inputs(time, width=33, rows=2):
    generator = torch.Generator().manual_seed(time)
    k = torch.rand(rows, time, width, generator=generator)
    k[:, :, :4] = 1e-6  # a state that lasts
    k[:, :, 4:8] = 1 - 1e-6  # one that is replaced
    k[:, ::3, 8:12] = 0.0
    k[:, ::5, 12:16] = 1.0
    u, state = torch.randn(rows, time, width, generator=generator), torch.randn(rows, width, generator=generator)
    return k, u, state


def with_gradients(function, device, *arguments):
    """-> (states, the gradients of a random linear function of them in k, u and the first state), on the CPU."""
    own = [x.to(device).requires_grad_() for x in arguments]
    states = function(*own)
    weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (states * weight).sum().backward()
    return [x.detach().cpu() for x in (states, *(y.grad for y in own))]


@pytest.mark.parametrize("time", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
@pytest.mark.parametrize(("name", "device"), VERSIONS, ids=["-".join(v) for v in VERSIONS])
def test_a_fast_version_equals_the_loop(name, device, time):
    expected = with_gradients(scan_loop, "cpu", *inputs(time))
    found = with_gradients(lambda *x: scan_with(version(name), *x), device, *inputs(time))
    # Float32 sums in another order: a state is a mean of values near 1, a gradient a sum of up to `time` of them.
    for got, want in zip(found, expected):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_the_gradient_is_that_of_finite_differences():
    k, u, state = (x.double().requires_grad_() for x in inputs(7, width=20, rows=1))
    k = (k.detach() * 0.8 + 0.1).requires_grad_()

    def through(k, u, state):
        return LinearScan.apply(1 - k, k * u, state, linear_chunked)

    assert torch.autograd.gradcheck(through, (k, u, state))


def test_a_few_positions_go_through_the_loop_and_many_do_not():
    assert fastest(FEW, torch.device("cpu")) is fastest(1, torch.device("cuda")) is None
    assert fastest(FEW + 1, torch.device("cpu")) is linear_chunked
    for time in (FEW, FEW + 1):
        k, u, state = inputs(time)
        torch.testing.assert_close(scan(k, u, state), scan_loop(k, u, state), rtol=1e-5, atol=1e-5)


def test_on_a_gpu_triton_is_used_only_when_it_is_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert fastest(FEW + 1, torch.device("cuda")) is linear_chunked
