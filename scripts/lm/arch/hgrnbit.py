"""HGRN-bit: the MatMul-free language model (arXiv 2406.02528), byte-level.

Source: the block as published checkpoints compute it (ridgerchu/matmulfreellm): the norm of the output gate is on the
gate, the SiLU on the state.  Different here: `Config.decay_span` adds fixed lower bounds (see `keep_table`).

Glossary: B batch, T time, D hidden width, E recurrent width, I feed-forward width, K convolution taps.
"""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.keys import check_keys
from lm.arch.losses import Lesson, byte_loss
from lm.arch.observed import enter, see
from lm.arch.scan import scan
from lm.arch.ternary import BitLinear, Embedding, RMSNorm


@dataclass(frozen=True)
class Config:
    architecture: ClassVar[str] = "hgrnbit"
    vocab_size: int = 256
    hidden: int = 256
    recurrent: int = 256
    intermediate: int = 768
    layers: int = 4
    conv_kernel: int = 4  # taps of the causal depthwise convolution before the projections; 0 = none
    lower_bounds: bool = False  # learned lower bounds of the forget gate, as published
    decay_span: float = (
        0.0  # if > 1, fixed lower bounds: channel c may at most replace span^-(c/(E-1)) of its state per byte
    )
    gate_norm: str = "gate"  # which operand of the output gate is normed: "gate" (published weights) or "state"
    sigmoid: str = "table"  # "table": the true function; "piecewise_linear": clamp(0.2 x + 0.5)
    eps: float = 1e-6
    ternary: bool = (
        True  # False: float weights and activations, for a teacher, or for SuperFloat (scripts/superfloat.py)
    )

    def __post_init__(self):
        for name in ("vocab_size", "hidden", "recurrent", "intermediate", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if self.conv_kernel not in (0, *range(2, 9)):
            raise ValueError(f"model.conv_kernel must be 0 (none) or 2 to 8, got {self.conv_kernel}")
        if self.gate_norm not in ("gate", "state"):
            raise ValueError(f'model.gate_norm must be "gate" or "state", got {self.gate_norm!r}')
        if self.sigmoid not in ("table", "piecewise_linear"):
            raise ValueError(f'model.sigmoid must be "table" or "piecewise_linear", got {self.sigmoid!r}')
        if self.lower_bounds and self.decay_span > 1:
            raise ValueError("model.lower_bounds (learned) and model.decay_span (fixed) exclude each other")

    @staticmethod
    def from_dict(values: dict) -> "Config":
        check_keys("model", Config, values)
        return Config(**values)

    to_dict = asdict


def gate_sigmoid(x: Tensor, kind: str) -> Tensor:
    return torch.sigmoid(x) if kind == "table" else (0.2 * x + 0.5).clamp(0, 1)


class Mix(nn.Module):
    """The token mixer: s = f*s + (1-f)*silu(i), read through an output gate."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.conv = nn.Conv1d(c.hidden, c.hidden, c.conv_kernel, groups=c.hidden, bias=False) if c.conv_kernel else None
        self.i_proj = BitLinear(c.hidden, c.recurrent, c.eps, c.ternary)
        self.f_proj = BitLinear(c.hidden, c.recurrent, c.eps, c.ternary)
        self.g_proj = BitLinear(c.hidden, c.recurrent, c.eps, c.ternary)
        self.o_proj = BitLinear(c.recurrent, c.hidden, c.eps, c.ternary)
        self.g_norm = RMSNorm(c.recurrent, c.eps)
        self.scan = scan  # cpu_kernels.accelerate replaces it with a compiled version

    def silu(self, x: Tensor) -> Tensor:
        return x * gate_sigmoid(x, self.c.sigmoid)

    def forward(
        self, a: Tensor, keep: Tensor, state: Tensor, tail: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """a [B,T,D], keep [E], state [B,E], tail [B,K-1,D], lengths [B] -> output [B,T,D], new state, new tail."""
        valid = torch.arange(a.shape[1], device=a.device) < lengths[:, None]  # [B,T]
        if self.conv is not None:
            window = torch.cat((tail, a), 1)  # [B, K-1+T, D]
            last = lengths[:, None] + torch.arange(tail.shape[1], device=a.device)  # [B, K-1]
            tail = window.gather(1, last[:, :, None].expand_as(tail))
            a = see("conv", self.silu(self.conv(window.transpose(1, 2)).transpose(1, 2)))
        i, f, g = see("i", self.i_proj(a)), see("f", self.f_proj(a)), see("g", self.g_proj(a))
        k = keep * gate_sigmoid(-f, self.c.sigmoid)  # 1 - forget gate, [B,T,E]
        k = k * valid[:, :, None]  # past the end of a row its state stays
        s = see("state", self.scan(k, self.silu(i), state))  # [B,T,E]
        state = s[:, -1]
        o = self.g_norm(g) * self.silu(s) if self.c.gate_norm == "gate" else self.g_norm(s) * self.silu(g)
        return see("mixed", self.o_proj(see("o", o))), state, tail


class MLP(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.gate_proj = BitLinear(c.hidden, 2 * c.intermediate, c.eps, c.ternary)  # gate rows first, then up
        self.down_proj = BitLinear(c.intermediate, c.hidden, c.eps, c.ternary)

    def forward(self, y: Tensor) -> Tensor:
        gate, up = see("gate_up", self.gate_proj(y)).chunk(2, -1)
        return see("down", self.down_proj(see("mlp", gate * gate_sigmoid(gate, self.c.sigmoid) * up)))


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.attn_norm = RMSNorm(c.hidden, c.eps)
        self.attn = Mix(c)
        self.mlp_norm = RMSNorm(c.hidden, c.eps)
        self.mlp = MLP(c)

    def forward(
        self, h: Tensor, keep: Tensor, state: Tensor, tail: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h [B,T,D] -> output [B,T,D], state and tail after the last token.

        Row b has lengths[b] tokens, 0 to T (None: T each); the output is zero after them, whatever h holds there.
        """
        rows, time = h.shape[:2]
        ends = torch.full((rows,), time, device=h.device) if lengths is None else lengths.to(h.device)
        mixed, state, tail = self.attn(see("attn_norm", self.attn_norm(h)), keep, state, tail, ends)
        h = see("h1", h + mixed)
        out = see("out", h + self.mlp(see("ffn_norm", self.mlp_norm(h))))
        if lengths is not None:
            out = out * (torch.arange(time, device=h.device) < ends[:, None])[:, :, None]
        return out, state, tail


class HGRNBit(nn.Module):
    """logits = model(tokens).  `states` (from `initial_states`) makes a long text a sequence of calls."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.embeddings = Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        self.lm_head = BitLinear(c.hidden, c.vocab_size, c.eps, c.ternary)
        if c.lower_bounds:
            self.lower_bounds = nn.Parameter(torch.zeros(c.layers, c.recurrent))
        # cpu_kernels.accelerate replaces them with fused versions
        self.block_forward, self.cross_entropy = Block.__call__, F.cross_entropy

    def keep_table(self) -> Tensor:
        """1 - LB, [layers, E]: the largest share of its state that a channel may replace in one step."""
        c = self.config
        if c.lower_bounds:
            bounds = self.lower_bounds.softmax(0).cumsum(0)
            return 1 - (bounds - bounds[:1])
        keep = torch.ones(c.layers, c.recurrent)
        if c.decay_span > 1:
            keep = keep * torch.exp(-math.log(c.decay_span) * torch.linspace(0, 1, c.recurrent))
        return keep.to(self.norm.weight.device)

    def initial_states(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Per layer (state [B,E], convolution tail [B,K-1,D]), all zero."""
        c, like = self.config, self.norm.weight
        taps = max(c.conv_kernel - 1, 0)
        return [(like.new_zeros(batch, c.recurrent), like.new_zeros(batch, taps, c.hidden)) for _ in range(c.layers)]

    def hidden(self, tokens: Tensor, states: list) -> tuple[list[Tensor], list]:
        """tokens [B,T] -> the residual stream after the embedding and after every block, and the new states."""
        enter("blk.0")
        hs, after = [see("in", self.embeddings(tokens))], []
        for n, (layer, keep, (state, tail)) in enumerate(zip(self.layers, self.keep_table(), states)):
            enter(f"blk.{n}")
            h, state, tail = self.block_forward(layer, hs[-1], keep, state, tail)
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
        """Mean nats per byte.  `targets` is `tokens` one byte later: the only place where the shift happens is the loader."""
        logits, states = self.forward(tokens, states)
        loss, statistics = byte_loss(logits, targets, lesson, self.cross_entropy)
        return loss, states, statistics


Model = HGRNBit  # the name by which lm.arch finds it
