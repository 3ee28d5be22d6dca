"""BitMamba-2: a ternary state space model with one decay per head and no MLP.

Source: the published checkpoints and their engine (Zhayr1/bitmamba.cpp).  Different here: activations are quantised
with the floor of lm.arch.ternary (their engine adds 1e-5 to the maximum), the scale of a matrix is rounded to fp16 and the
embedding to int8 rows, because that is what the file stores.

Glossary: B batch, T time, D hidden width, E inner width, N heads, K convolution taps.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.keys import check_keys
from lm.arch.losses import Lesson, byte_loss
from lm.arch.observed import enter, see
from lm.arch.scan import linear_scan
from lm.arch.ternary import BitLinear, Embedding, RMSNorm


@dataclass(frozen=True)
class Config:
    architecture: ClassVar[str] = "bitmamba2"
    vocab_size: int = 256
    hidden: int = 256
    inner: int = 512
    heads: int = 4  # each a range of inner / heads neighbouring channels
    layers: int = 4
    conv_kernel: int = 4  # taps of the causal depthwise convolution of the inner channels
    eps: float = 1e-6

    def __post_init__(self):
        for name in ("vocab_size", "hidden", "inner", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.inner % self.heads:
            raise ValueError(f"model.inner must be a multiple of model.heads, got {self.inner} and {self.heads}")
        if self.conv_kernel not in range(2, 9):
            raise ValueError(f"model.conv_kernel must be 2 to 8, got {self.conv_kernel}")

    @staticmethod
    def from_dict(values: dict) -> "Config":
        check_keys("model", Config, values)
        return Config(**values)

    to_dict = asdict


class Block(nn.Module):
    """h + out(gated memory): s = exp(-rate dt) s + dt B a per channel; rate, dt, B and C are one number per head."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.in_proj = BitLinear(c.hidden, 2 * c.inner + 3 * c.heads, c.eps)  # rows of z, x, B, C, dt
        self.conv = nn.Conv1d(c.inner, c.inner, c.conv_kernel, groups=c.inner)
        self.dt_bias = nn.Parameter(torch.zeros(c.heads))
        self.a_log = nn.Parameter(torch.zeros(c.heads))  # the file has the rate exp(a_log)
        self.skip = nn.Parameter(torch.ones(c.inner))  # D of the paper
        self.out_proj = BitLinear(c.inner, c.hidden, c.eps)

    def forward(self, h: Tensor, state: Tensor, tail: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h [B,T,D], state [B,E], tail [B,K-1,E] -> output [B,T,D], state and tail after the last token."""
        c = self.c
        z, x, b, gain, dt = see("u", self.in_proj(h)).split((c.inner, c.inner, c.heads, c.heads, c.heads), -1)
        window = torch.cat((tail, x), 1)  # [B,K-1+T,E]
        a = see("conv", F.silu(self.conv(window.transpose(1, 2)).transpose(1, 2)))  # [B,T,E]
        dt = F.softplus(dt + self.dt_bias)  # [B,T,N]
        decay = self.per_channel(torch.exp(-self.a_log.exp() * dt))
        s = see("state", linear_scan(decay, self.per_channel(b * dt) * a, state))  # [B,T,E]
        y = see("y", (s * self.per_channel(gain) + a * self.skip) * F.silu(z))
        return see("out", h + see("mixed", self.out_proj(y))), s[:, -1], window[:, window.shape[1] - tail.shape[1] :]

    def per_channel(self, heads: Tensor) -> Tensor:
        """[...,N] -> [...,E]"""
        return heads.repeat_interleave(self.c.inner // self.c.heads, -1)


class BitMamba2(nn.Module):
    """logits = model(tokens).  `states` (from `initial_states`) makes a long text a sequence of calls."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.embeddings = Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        self.lm_head = BitLinear(c.hidden, c.vocab_size, c.eps)

    def initial_states(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Per layer (state [B,E], convolution tail [B,K-1,E]), all zero."""
        c, like = self.config, self.norm.weight
        return [
            (like.new_zeros(batch, c.inner), like.new_zeros(batch, c.conv_kernel - 1, c.inner)) for _ in range(c.layers)
        ]

    def hidden(self, tokens: Tensor, states: list) -> tuple[list[Tensor], list]:
        """tokens [B,T] -> the residual stream after the embedding and after every block, and the new states."""
        enter("blk.0")
        hs, after = [see("in", self.embeddings(tokens))], []
        for n, (layer, (state, tail)) in enumerate(zip(self.layers, states)):
            enter(f"blk.{n}")
            h, state, tail = layer(hs[-1], state, tail)
            hs.append(h)
            after.append((state, tail))
        return hs, after

    def forward(self, tokens: Tensor, states: list | None = None) -> tuple[Tensor, list]:
        """tokens [B,T] -> logits [B,T,V] for the *next* token of each position, and the states after the last."""
        hs, states = self.hidden(tokens, self.initial_states(tokens.shape[0]) if states is None else states)
        enter("head")
        return see("logits", self.lm_head(see("norm", self.norm(hs[-1])))), states

    def step(self, token: Tensor, states: list) -> tuple[Tensor, list]:
        """One token [B] -> logits [B,V] and states: streaming inference."""
        logits, states = self.forward(token[:, None], states)
        return logits[:, 0], states

    def loss(
        self, tokens: Tensor, targets: Tensor, states: list | None = None, lesson: Lesson | None = None
    ) -> tuple[Tensor, list, dict]:
        """Mean nats per token.  `targets` is `tokens` one later: the only place where the shift happens is the loader."""
        logits, states = self.forward(tokens, states)
        loss, statistics = byte_loss(logits, targets, lesson)
        return loss, states, statistics


Model = BitMamba2  # the name by which lm.arch finds it
