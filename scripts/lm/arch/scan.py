"""The recurrence of a token mixer over a window: the plain loop that defines it, and versions that are fast elsewhere.

    s_t = s_{t-1} + k_t * (u_t - s_{t-1})        k_t in [0, 1]: the share of the state that is replaced

`scan` chooses: the loop for a few positions, a Triton kernel on a GPU when the package triton is there, and else the
parallel version in plain PyTorch (on a CPU about 15 times faster than the loop, forward and backward, in windows of 256).
All are float32. The fused CPU blocks (folder cpu) have their own.

Glossary: B batch, T time, E recurrent width; a = 1 - k and b = k * u give the linear recurrence s_t = a_t s_{t-1} + b_t.
"""

import importlib.util

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64  # positions that are scanned together; chunks follow each other
FEW = 16  # positions up to which the loop is used


def scan_loop(k: Tensor, u: Tensor, state: Tensor) -> Tensor:
    """k, u [B,T,E], state [B,E] -> the state after every position [B,T,E].  The definition."""
    states = []
    for t in range(k.shape[1]):
        state = state + k[:, t] * (u[:, t] - state)
        states.append(state)
    return torch.stack(states, 1)


def linear_chunked(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """s_t = a_t s_{t-1} + b_t in CHUNK positions at once: log2(CHUNK) steps inside (Hillis and Steele, 1986), then one per chunk.

    Only products of a, which is in [0, 1], are formed: no logarithms, no divisions, nothing can overflow.
    """
    batch, time, width = a.shape
    padding = -time % CHUNK
    a, b = (F.pad(x, (0, 0, 0, padding)).reshape(batch, -1, CHUNK, width) for x in (a, b))
    distance = 1
    while distance < CHUNK:  # a, b of a position: what `distance` positions up to it do together
        before_a, before_b = a[:, :, :-distance], b[:, :, :-distance]
        late_a, late_b = a[:, :, distance:], b[:, :, distance:]
        b = torch.cat((b[:, :, :distance], late_b + late_a * before_b), 2)
        a = torch.cat((a[:, :, :distance], late_a * before_a), 2)
        distance *= 2
    before = []
    for chunk in range(a.shape[1]):
        before.append(state)
        state = a[:, chunk, -1] * state + b[:, chunk, -1]
    states = b + a * torch.stack(before, 1)[:, :, None]
    return states.reshape(batch, -1, width)[:, :time]


class LinearScan(torch.autograd.Function):
    """The linear recurrence with a backward pass that is the same recurrence backwards: memory for one state a position."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, state: Tensor, run) -> Tensor:
        a, b, state = a.contiguous(), b.contiguous(), state.contiguous()
        states = run(a, b, state)
        ctx.save_for_backward(a, states, state)
        ctx.run = run
        return states

    @staticmethod
    def backward(ctx, g: Tensor):
        a, states, state = ctx.saved_tensors
        later = F.pad(a[:, 1:], (0, 0, 0, 1))  # the factor with which a state goes into the next one
        through = ctx.run(later.flip(1).contiguous(), g.flip(1).contiguous(), torch.zeros_like(state)).flip(1)
        before = torch.cat((state[:, None], states[:, :-1]), 1)
        return through * before, through, a[:, 0] * through[:, 0], None


def linear_scan(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """a (in [0, 1]), b [B,T,E], state [B,E] -> s_t = a_t s_{t-1} + b_t at every position [B,T,E]."""
    run = fastest(a.shape[1], a.device)
    if run is not None:
        return LinearScan.apply(a.float(), b.float(), state.float(), run)
    states = []
    for t in range(a.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, 1)


def scan_with(run, k: Tensor, u: Tensor, state: Tensor) -> Tensor:
    """As scan_loop, by a function that computes the linear recurrence."""
    k, u = k.float(), u.float()
    return LinearScan.apply(1 - k, k * u, state.float(), run)


def fastest(time: int, device: torch.device):
    """The function that computes the linear recurrence of this many positions on a device; None: the loop."""
    if time <= FEW:
        return None
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return linear_chunked
    from lm.arch.scan_triton import linear_triton

    return linear_triton


def scan(k: Tensor, u: Tensor, state: Tensor) -> Tensor:
    """k, u [B,T,E], state [B,E] -> the state after every position [B,T,E]."""
    run = fastest(k.shape[1], k.device)
    return scan_loop(k, u, state) if run is None else scan_with(run, k, u, state)
