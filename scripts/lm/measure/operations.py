"""The models of lm/arch computed one named operation at a time, so that each can be watched, replaced or disturbed.

The operations and the parts they are in have the names that `tern_trace` gives them; a test holds both to lm/arch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch import hnetbit
from lm.arch.hgrnbit import Block, gate_sigmoid
from lm.arch.ternary import quantize_activation

# feed(part, operation, value): what the operations after this one get, where `value` was computed
Feed = Callable[[str, str, Tensor], Tensor]


def run_block(part: str, block: Block, keep: Tensor, h: Tensor, feed: Feed) -> Tensor:
    """A block on h [T, D] from the beginning of a text, keep [E]."""
    mix, kind = block.attn, block.attn.c.sigmoid
    a = feed(part, "attn_norm", block.attn_norm(h))
    if mix.conv is not None:
        window = F.pad(a.T[None], (mix.conv.kernel_size[0] - 1, 0))
        a = feed(part, "conv", mix.silu(mix.conv(window)[0].T))
    i, f, g = (feed(part, n, linear(a)) for n, linear in (("i", mix.i_proj), ("f", mix.f_proj), ("g", mix.g_proj)))
    k, u, state, states = keep * gate_sigmoid(-f, kind), mix.silu(i), torch.zeros_like(i[0]), []
    for t in range(len(h)):
        state = state + k[t] * (u[t] - state)
        states.append(state)
    s = feed(part, "state", torch.stack(states))
    normed, other = (g, s) if mix.c.gate_norm == "gate" else (s, g)
    o = feed(part, "o", mix.g_norm(normed) * mix.silu(other))
    h = feed(part, "h1", h + feed(part, "mixed", mix.o_proj(o)))
    y = feed(part, "ffn_norm", block.mlp_norm(h))
    gate, up = feed(part, "gate_up", block.mlp.gate_proj(y)).chunk(2, -1)
    mlp = feed(part, "mlp", gate * gate_sigmoid(gate, kind) * up)
    return feed(part, "out", h + feed(part, "down", block.mlp.down_proj(mlp)))


def run_blocks(prefix: str, blocks: Iterable[Block], keeps: Tensor, h: Tensor, feed: Feed) -> Tensor:
    for n, (block, keep) in enumerate(zip(blocks, keeps)):
        h = run_block(f"{prefix}{n}", block, keep, h, feed)
    return h


def run_level(model: nn.Module, s: int, x: Tensor, boundaries: list[Tensor], feed: Feed) -> Tensor:
    """Level s of a hierarchical model and all inside it, on its rows x [T, D]; boundaries[s] [T]: which begin a chunk."""
    if s == len(model.stages):
        x = run_blocks("main.", model.main.layers, model.main.keep, x, feed)
        return feed("main_norm", "norm", model.main.norm(x))
    stage, boundary, name = model.stages[s], boundaries[s], f"stage.{s}."
    x = run_blocks(f"{name}enc.", stage.encoder.layers, stage.encoder.keep, x, feed)
    e = feed(f"{name}router", "norm", stage.encoder.norm(x))
    codes = quantize_activation(e)
    q = feed(f"{name}router", "q", stage.router_q(codes))
    k = feed(f"{name}router", "k", stage.router_k(codes))
    residual = feed(f"{name}router", "residual", stage.residual(codes))
    p, _ = hnetbit.boundary_probability(torch.cat((torch.zeros_like(q[:1]), q[:-1])), k)
    p[0] = 1  # a text begins with a chunk
    p = p.clamp(hnetbit.PROBABILITY_MARGIN, 1 - hnetbit.PROBABILITY_MARGIN) * boundary
    p = feed(f"{name}router", "p", p[:, None])

    y = run_level(model, s + 1, stage.widen(e[boundary]), boundaries, feed)[:, : e.shape[1]]
    count = torch.tensor([len(y)])
    smoothed = hnetbit.smooth(y[None], p[boundary].T, count, torch.zeros_like(y[:1]))[0]
    z = feed(f"{name}chunks", "z", smoothed[boundary.long().cumsum(0)])
    h = feed(f"{name}chunks", "h", z + residual)
    h = run_blocks(f"{name}dec.", stage.decoder.layers, stage.decoder.keep, h, feed)
    return feed(f"{name}out", "norm", stage.decoder.norm(h))


@torch.no_grad()
def run_model(model: nn.Module, tokens: Tensor, boundaries: list[Tensor], feed: Feed) -> Tensor:
    """tokens [T] -> logits [T, V], as forward() does it. boundaries: per stage over its rows; none for a flat model."""
    if boundaries:
        x = feed("stage.0.enc.0", "in", model.embeddings(tokens))
        x = run_level(model, 0, x, boundaries, feed)
    else:
        x = feed("blk.0", "in", model.embeddings(tokens))
        x = run_blocks("blk.", model.layers, model.keep_table(), x, feed)
        x = feed("head", "norm", model.norm(x))
    return feed("head", "logits", model.lm_head(x))
