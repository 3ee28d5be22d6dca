"""BitNet b1.58: a ternary transformer with grouped-query attention, rotated queries and keys, and a gated MLP.

Source: microsoft/bitnet-b1.58-2B-4T as huggingface/transformers computes it (models/bitnet), Falcon-E without its sub-norms.
Different here: angles are multiples of 2^-32 of a turn, the scale of a matrix is rounded to fp16, and embedding and head to
int8 rows, because that is what the file stores.

Glossary: B batch, T time, S positions remembered, D hidden width, I feed-forward width, N query heads, G key/value heads,
W width of a head.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.keys import check_keys
from lm.arch.losses import Lesson, byte_loss
from lm.arch.observed import enter, see
from lm.arch.ternary import Embedding, RMSNorm, TernaryLinear, embedding_codes, straight_through

TURN = 2**32


def frequencies(base: float, width: int) -> tuple[int, ...]:
    """What a pair of a head of this width turns by at each position, in 2^-32 of a turn."""
    return tuple(round(TURN / (2 * math.pi) * base ** (-2 * pair / width)) for pair in range(width // 2))


@dataclass(frozen=True)
class Config:
    architecture: ClassVar[str] = "bitnet"
    vocab_size: int = 256
    hidden: int = 256
    intermediate: int = 768
    layers: int = 4
    heads: int = 4  # of queries
    kv_heads: int = 2  # of keys and values, each for heads / kv_heads queries
    head_width: int = 64
    context: int = 1024  # positions of a text
    activation: str = "relu2"  # of the MLP's gate: "relu2" (its square where it is positive) or "silu"
    sub_norms: bool = True  # before the last matrix of attention and of the MLP
    tied: bool = True  # the head is the embedding
    rope_base: float = field(default=500000.0, compare=False)
    frequencies: tuple[int, ...] = ()  # none: those of rope_base
    eps: float = 1e-5

    def __post_init__(self):
        for name in ("vocab_size", "hidden", "intermediate", "layers", "heads", "kv_heads", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.head_width not in range(4, 257, 4):
            raise ValueError(f"model.head_width must be 4 to 256, a multiple of 4, got {self.head_width}")
        if self.heads % self.kv_heads:
            raise ValueError(f"model.heads must be a multiple of model.kv_heads, got {self.heads} and {self.kv_heads}")
        if self.activation not in ("relu2", "silu"):
            raise ValueError(f'model.activation must be "relu2" or "silu", got {self.activation!r}')
        turns = tuple(self.frequencies) or frequencies(self.rope_base, self.head_width)
        if len(turns) != self.head_width // 2 or not all(0 <= turn < TURN for turn in turns):
            raise ValueError("model.frequencies must be one number below 2^32 for each pair of a head")
        object.__setattr__(self, "frequencies", turns)

    @staticmethod
    def from_dict(values: dict) -> "Config":
        check_keys("model", Config, values)
        return Config(**values)

    to_dict = asdict


def rounded(x: Tensor, most: int) -> Tensor:
    """Rows as the engine's codes hold them: multiples of a `most`-th of the largest magnitude."""
    step = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / most
    return torch.floor(x / step + 0.5) * step


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        self.q_proj = TernaryLinear(c.hidden, queries)
        self.k_proj = TernaryLinear(c.hidden, keys)
        self.v_proj = TernaryLinear(c.hidden, keys)
        self.sub_norm = RMSNorm(queries, c.eps) if c.sub_norms else None
        self.o_proj = TernaryLinear(queries, c.hidden)

    def forward(self, a: Tensor, past: tuple[Tensor, Tensor], codes: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """a [B,T,D], past keys and values [B,S,G,W] -> output [B,T,D], keys and values [B,S+T,G,W]."""
        c = self.c
        batch, time, before = a.shape[0], a.shape[1], past[0].shape[1]
        q, k, v = self.q_proj(a), self.k_proj(a), self.v_proj(a)
        q, k, v = (x.view(batch, time, -1, c.head_width) for x in (q, k, v))
        q, k = self.rotated(q, before), self.rotated(k, before)
        if codes:
            k, v = rounded(k, 127), rounded(v, 127)
        k, v = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        q = q.view(batch, time, c.kv_heads, -1, c.head_width) * c.head_width**-0.5
        later = torch.full((time, before + time), -math.inf, device=a.device).triu(before + 1)
        weights = (torch.einsum("btgnw,bsgw->bgnts", q, k) + later).softmax(-1)
        y = torch.einsum("bgnts,bsgw->btgnw", weights, v).reshape(batch, time, -1)
        return self.o_proj(y if self.sub_norm is None else self.sub_norm(y)), (k, v)

    def rotated(self, x: Tensor, first: int) -> Tensor:
        """[B,T,heads,W] at the positions from `first` on: element c and c + W/2 are turned together."""
        turns = torch.tensor(self.c.frequencies, dtype=torch.float64, device=x.device) / TURN
        positions = torch.arange(first, first + x.shape[1], dtype=torch.float64, device=x.device)
        angle = 2 * math.pi * (positions[:, None] * turns % 1)[:, None]  # [T,1,W/2]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        low, high = x.chunk(2, -1)
        return torch.cat((low * cos - high * sin, high * cos + low * sin), -1)


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.square = c.activation == "relu2"
        self.gate_proj = TernaryLinear(c.hidden, c.intermediate)
        self.up_proj = TernaryLinear(c.hidden, c.intermediate)
        self.sub_norm = RMSNorm(c.intermediate, c.eps) if c.sub_norms else None
        self.down_proj = TernaryLinear(c.intermediate, c.hidden)

    def forward(self, a: Tensor) -> Tensor:
        gate = self.gate_proj(a)
        y = (F.relu(gate).square() if self.square else F.silu(gate)) * self.up_proj(a)
        return self.down_proj(y if self.sub_norm is None else self.sub_norm(y))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.attn_norm = RMSNorm(c.hidden, c.eps)
        self.attn = Attention(c)
        self.mlp_norm = RMSNorm(c.hidden, c.eps)
        self.mlp = MLP(c)

    def forward(self, h: Tensor, past: tuple[Tensor, Tensor], codes: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """h [B,T,D] -> the same after the block, keys and values after the last token."""
        mixed, past = self.attn(self.attn_norm(h), past, codes)
        h = see("h1", h + see("mixed", mixed))
        return see("out", h + see("down", self.mlp(self.mlp_norm(h)))), past


class Head(nn.Module):
    """A table of int8 rows, each with its own scale."""

    def __init__(self, width: int, vocab: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, width).normal_(0, width**-0.5))


class BitNet(nn.Module):
    """logits = model(tokens).  `states` (from `initial_states`) makes a long text a sequence of calls.

    codes: keys, values and the head's input are rounded as the engine rounds them, where the published model does not.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.codes = False
        self.embeddings = Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        self.lm_head = None if c.tied else Head(c.hidden, c.vocab_size)
        if c.tied:  # rows of length 1, as a head's: else the first logits are as large as the square root of the width
            self.embeddings.weight.data.mul_(c.hidden**-0.5)

    def initial_states(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Per layer keys and values [B,0,G,W]: of no position."""
        c = self.config
        empty = self.norm.weight.new_zeros(batch, 0, c.kv_heads, c.head_width)
        return [(empty, empty) for _ in range(c.layers)]

    def forward(self, tokens: Tensor, states: list | None = None) -> tuple[Tensor, list]:
        """tokens [B,T] -> logits [B,T,V] for the *next* token of each position, and the states after the last."""
        after = []
        enter("blk.0")
        h = see("in", self.embeddings(tokens))
        for n, (layer, past) in enumerate(zip(self.layers, states or self.initial_states(len(tokens)))):
            enter(f"blk.{n}")
            h, past = layer(h, past, self.codes)
            after.append(past)
        enter("head")
        h = see("norm", self.norm(h))
        table = self.embeddings if self.lm_head is None else self.lm_head
        codes, scale = embedding_codes(table.weight)
        rows = straight_through(table.weight, codes, scale[:, None])
        return see("logits", F.linear(rounded(h, 1023) if self.codes else h, rows)), after

    def step(self, token: Tensor, states: list) -> tuple[Tensor, list]:
        """One token [B] -> logits [B,V] and states: streaming inference."""
        logits, states = self.forward(token[:, None], states)
        return logits[:, 0], states

    def loss(
        self, tokens: Tensor, targets: Tensor, states: list | None = None, lesson: Lesson | None = None
    ) -> tuple[Tensor, list, dict]:
        """Mean nats per token of windows that each begin at position 0: what was before a window is not carried into it."""
        logits, _ = self.forward(tokens)
        loss, statistics = byte_loss(logits, targets, lesson)
        return loss, self.initial_states(len(tokens)), statistics


Model = BitNet  # the name by which lm.arch finds it
