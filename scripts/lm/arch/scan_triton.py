"""The recurrence of lm/arch/scan.py as a Triton kernel: one program per row and block of channels, the state in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 64  # per program; a warp has 32 lanes


@triton.jit
def _recur(a, b, first, states, time, width, block: tl.constexpr):
    row = tl.program_id(0)
    channel = tl.program_id(1) * block + tl.arange(0, block)
    inside = channel < width
    state = tl.load(first + row * width + channel, mask=inside, other=0.0)
    place = row.to(tl.int64) * time * width + channel
    for _ in range(time):
        state = tl.load(a + place, mask=inside, other=0.0) * state + tl.load(b + place, mask=inside, other=0.0)
        tl.store(states + place, state, mask=inside)
        place += width


def linear_triton(a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """s_t = a_t s_{t-1} + b_t; a, b [B,T,E], state [B,E], contiguous float32 -> [B,T,E]."""
    batch, time, width = a.shape
    states = torch.empty_like(a)
    _recur[(batch, triton.cdiv(width, CHANNELS))](a, b, state, states, time, width, block=CHANNELS, num_warps=2)
    return states
