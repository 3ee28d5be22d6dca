"""HNet-bit: a hierarchical byte-level model that finds its own chunks; HGRN-bit blocks at every level.

Source: dynamic chunking of H-Net (arXiv 2507.07955; goombalab/hnet), with the blocks of hgrnbit.py as in jcv-dev/hnet_bit.
Different here: the router, the residual projection and the pad are what the file stores (int8 rows, see `Dense`), the
router may be narrower than its stage, and every level may have fixed lower bounds (`Config.decay_span`).

Glossary: B batch, T positions of a level (bytes at level 0), C chunks in a window, s level (0 outermost, S innermost),
D width of a level, R router width, K convolution taps.
"""

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch import hgrnbit
from lm.arch.keys import check_keys
from lm.arch.losses import Lesson, byte_loss
from lm.arch.observed import enter, observed, see
from lm.arch.ternary import BitLinear, Embedding, RMSNorm, embedding_codes, quantize_activation, straight_through

PROBABILITY_MARGIN = 1e-4  # the smoothing keeps at least this share of both the old and the new chunk


@dataclass(frozen=True)
class Config:
    """Lists with one entry per level, outermost first, have S+1 entries; those with one per stage have S."""

    architecture: ClassVar[str] = "hnetbit"
    vocab_size: int = 256
    hidden: tuple[int, ...] = (192, 384)  # D, not decreasing
    recurrent: tuple[int, ...] = (192, 384)  # E
    intermediate: tuple[int, ...] = (512, 1024)  # I
    encoder: tuple[int, ...] = (1,)  # blocks before the router of each stage
    decoder: tuple[int, ...] = (1,)  # blocks after the chunks came back
    layers: int = 2  # blocks of the innermost level
    router: tuple[int, ...] = (64,)  # R
    target: tuple[float, ...] = (4.5,)  # wanted mean chunk length, in positions of the stage
    ratio_weight: float = 0.03  # weight of the loss that pulls the mean chunk length towards `target`
    residual_start: float = 0.0  # diagonal of the residual projections before training; as published: 0
    lr_multiplier: tuple[float, ...] = (1.0, 1.0)  # factor on the learning rates of each level
    router_lr: float = 1.0  # factor on the learning rate of the routers
    decay_span: tuple[float, ...] = (16.0, 16.0)  # see hgrnbit.Config; 0 at every level: no lower bounds
    conv_kernel: int = 4
    gate_norm: str = "gate"
    sigmoid: str = "table"
    eps: float = 1e-6

    def __post_init__(self):
        stages = len(self.hidden) - 1
        if stages < 1:
            raise ValueError(f"model.hidden needs at least two levels, found {list(self.hidden)}; flat: hgrnbit")
        for name in ("recurrent", "intermediate", "lr_multiplier", "decay_span"):
            if len(getattr(self, name)) != stages + 1:
                raise ValueError(
                    f"model.{name} needs {stages + 1} entries, one per entry of model.hidden, "
                    f"found {list(getattr(self, name))}"
                )
        for name in ("encoder", "decoder", "router", "target"):
            if len(getattr(self, name)) != stages:
                raise ValueError(
                    f"model.{name} needs {stages} entries, one less than model.hidden, found {list(getattr(self, name))}"
                )
        for outer, inner in zip(self.hidden, self.hidden[1:]):
            if inner < outer:
                raise ValueError(f"model.hidden must not decrease from level to level, found {list(self.hidden)}")
        for name in ("encoder", "decoder", "router"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"model.{name} must be at least 1 everywhere, found {list(getattr(self, name))}")
        for width, rows in zip(self.hidden, self.router):
            if rows > width:
                raise ValueError(f"model.router must be at most the width of its stage, {width}, found {rows}")
        if not all(n > 1 for n in self.target):
            raise ValueError(f"model.target, positions per chunk, must be above 1, found {list(self.target)}")
        for name in ("ratio_weight", "lr_multiplier", "router_lr"):
            if np.min(getattr(self, name)) < 0:
                raise ValueError(f"model.{name} must not be negative, found {getattr(self, name)}")
        if len({span > 1 for span in self.decay_span}) > 1:
            raise ValueError(
                f"model.decay_span must be above 1 at every level or 0 at every level, found {list(self.decay_span)}"
            )
        for level in range(stages + 1):
            self.level(level)

    def level(self, s: int) -> hgrnbit.Config:
        """The settings of the blocks of level s; checks them."""
        return hgrnbit.Config(
            vocab_size=self.vocab_size,
            hidden=self.hidden[s],
            recurrent=self.recurrent[s],
            intermediate=self.intermediate[s],
            layers=self.layers if s == len(self.hidden) - 1 else self.encoder[s] + self.decoder[s],
            conv_kernel=self.conv_kernel,
            decay_span=self.decay_span[s],
            gate_norm=self.gate_norm,
            sigmoid=self.sigmoid,
            eps=self.eps,
        )

    @staticmethod
    def from_dict(values: dict) -> "Config":
        check_keys("model", Config, values)
        return Config(**{key: tuple(x) if isinstance(x, list) else x for key, x in values.items()})


class Dense(nn.Module):
    """An int8 matrix with one scale per row, and optionally a bias.  Master [rows, cols].

    The input has to be quantised to int8 per token (no norm before that); the three of a stage share it.
    """

    def __init__(self, cols: int, rows: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, cols))
        self.bias = nn.Parameter(torch.zeros(rows)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        codes, scale = embedding_codes(self.weight)
        with torch.autocast(x.device.type, enabled=False):  # the sign of a sum decides where a chunk begins
            return F.linear(x, straight_through(self.weight, codes, scale[:, None]), self.bias)


class Stack(nn.Module):
    """HGRN-bit blocks and the norm after them."""

    def __init__(self, c: hgrnbit.Config, blocks: int):
        super().__init__()
        self.layers = nn.ModuleList(hgrnbit.Block(c) for _ in range(blocks))
        self.norm = RMSNorm(c.hidden, c.eps)
        keep = torch.exp(-math.log(max(c.decay_span, 1.0)) * torch.linspace(0, 1, c.recurrent))
        self.register_buffer("keep", keep.repeat(blocks, 1), persistent=False)  # [blocks, E], 1 - lower bound

    def initial_states(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        c, like = self.layers[0].attn.c, self.norm.weight
        taps = max(c.conv_kernel - 1, 0)
        return [(like.new_zeros(batch, c.recurrent), like.new_zeros(batch, taps, c.hidden)) for _ in self.layers]


class Stage(nn.Module):
    """What surrounds level s+1: encoder, router, pad, residual, decoder."""

    def __init__(self, c: Config, s: int):
        super().__init__()
        D, R = c.hidden[s], c.router[s]
        self.encoder = Stack(c.level(s), c.encoder[s])
        self.router_q, self.router_k = Dense(D, R, bias=False), Dense(D, R, bias=False)
        for router in (self.router_q, self.router_k):
            nn.init.eye_(router.weight)
        self.pad = nn.Parameter(torch.zeros(c.hidden[s + 1] - D))
        self.residual = Dense(D, D, bias=True)
        nn.init.eye_(self.residual.weight).data.mul_(c.residual_start)
        self.decoder = Stack(c.level(s), c.decoder[s])

    def initial_state(self, batch: int) -> tuple:
        """(encoder states, q [B,R] of the last position, current z [B,D], whether it started [B], decoder states)"""
        like, (R, D) = self.pad, self.router_q.weight.shape
        started = torch.zeros(batch, dtype=torch.bool, device=like.device)
        encoder, decoder = self.encoder.initial_states(batch), self.decoder.initial_states(batch)
        return encoder, like.new_zeros(batch, R), like.new_zeros(batch, D), started, decoder

    def widen(self, rows: Tensor) -> Tensor:
        """[..., D] -> [..., D of the next level]"""
        return torch.cat((rows, self.pad.expand(*rows.shape[:-1], -1)), -1)


def boundary_probability(q_before: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """[..., R] each -> p = (1 - cos) / 2 and whether a chunk begins here: only the sign of the product decides."""
    dot = (q_before * k).sum(-1)
    cosine = dot / (q_before.norm(dim=-1) * k.norm(dim=-1)).clamp(min=1e-8)
    return (1 - cosine) / 2, dot < 0


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """table [B,T,D], index [B,C] -> [B,C,D].  As an embedding look-up, because its backward pass is the fast one."""
    first = torch.arange(table.shape[0], device=index.device)[:, None] * table.shape[1]
    return F.embedding(first + index, table.flatten(0, 1))


def chunks(boundary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """boundary [B,T] -> positions of the boundaries [B,C], their number [B], boundaries up to each position [B,T].

    C is the largest number of the batch, at least 1; rows are padded with position 0.
    """
    so_far = boundary.long().cumsum(1)
    count = so_far[:, -1]
    index = so_far.new_zeros(boundary.shape[0], max(int(count.max()), 1))
    row, position = boundary.nonzero(as_tuple=True)
    index[row, so_far[row, position] - 1] = position
    return index, count, so_far


def smooth(y: Tensor, p: Tensor, count: Tensor, z: Tensor) -> Tensor:
    """z_j = P_j y_j + (1 - P_j) z_{j-1};  y [B,C,D], p [B,C], count [B], z [B,D] -> [B,1+C,D], the given z first."""
    p = p.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    p = p * (torch.arange(p.shape[1], device=p.device) < count[:, None])  # padding changes nothing
    zs = [z]
    for y_j, p_j in zip(y.unbind(1), p[:, :, None].unbind(1)):
        zs.append(torch.lerp(zs[-1], y_j, p_j))
    return torch.stack(zs, 1)


class HNetBit(nn.Module):
    """logits = model(tokens).  `states` (from `initial_states`) makes a long text a sequence of calls."""

    skips_parameters = True  # a window without a boundary leaves the inner levels alone

    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.embeddings = Embedding(c.vocab_size, c.hidden[0])
        self.stages = nn.ModuleList(Stage(c, s) for s in range(len(c.hidden) - 1))
        self.main = Stack(c.level(len(self.stages)), c.layers)
        self.lm_head = BitLinear(c.hidden[0], c.vocab_size, c.eps)
        self.watches = [RouterWatch(s, target) for s, target in enumerate(c.target)]
        # cpu_kernels.accelerate replaces them with fused versions
        self.block_forward, self.cross_entropy = hgrnbit.Block.__call__, F.cross_entropy

    def initial_states(self, batch: int) -> list:
        """One entry per level: Stage.initial_state, and the states of the blocks for the innermost level."""
        return [stage.initial_state(batch) for stage in self.stages] + [self.main.initial_states(batch)]

    def run(
        self, stack: Stack, x: Tensor, lengths: Tensor | None, states: list, name: str, then: str
    ) -> tuple[Tensor, list]:
        """x [B,T,D], of which row b has lengths[b] (None: T) positions -> norm(blocks(x)), states after the last.

        name: what the blocks' own names begin with; then: of the part that the norm belongs to.
        """
        after = []
        for n, (layer, keep, (state, tail)) in enumerate(zip(stack.layers, stack.keep, states)):
            enter(f"{name}{n}")
            x, state, tail = self.block_forward(layer, x, keep, state, tail, lengths)
            after.append((state, tail))
        enter(then)
        return see("norm", stack.norm(x)), after

    def level(self, s: int, x: Tensor, lengths: Tensor | None, states: list, notes: list) -> tuple[Tensor, list]:
        """Level s and everything inside it.  x [B,T,D], states from level s on -> [B,T,D], new states."""
        if s == len(self.stages):
            x, after = self.run(self.main, x, lengths, states[0], "main.", "main_norm")
            return x, [after]
        stage, (encoder, q_last, z_last, started, decoder) = self.stages[s], states[0]
        name = f"stage.{s}."
        e, encoder = self.run(stage.encoder, x, lengths, encoder, f"{name}enc.", f"{name}router")
        codes = quantize_activation(e)

        position = torch.arange(x.shape[1], device=x.device)
        lengths = started.new_full(started.shape, x.shape[1], dtype=torch.long) if lengths is None else lengths
        valid, start = position < lengths[:, None], ~started[:, None] & (position == 0)  # [B,T] each
        q = torch.cat((q_last[:, None], see("q", stage.router_q(codes))), 1)  # [B,1+T,R]: q[:, t] is of position t-1
        p, boundary = boundary_probability(q[:, :-1], see("k", stage.router_k(codes)))
        residual = see("residual", stage.residual(codes))
        p, boundary = p.masked_fill(start, 1.0), see("boundary", (boundary | start) & valid)
        if observed():  # what is used of p: where a chunk begins, and as `smooth` uses it
            limited = p.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN) * boundary
            p = see("p", limited[..., None])[..., 0]

        index, count, so_far = chunks(boundary)
        y, inner = self.level(s + 1, stage.widen(rows_at(e, index)), count, states[1:], notes)
        z = smooth(y[..., : x.shape[2]], p.gather(1, index), count, z_last)
        selected = torch.where(boundary, p, 1 - p)[..., None]
        enter(f"{name}chunks")
        h = see("h", see("z", rows_at(z, so_far)) * (1 + selected - selected.detach()) + residual)
        out, decoder = self.run(stage.decoder, h, lengths, decoder, f"{name}dec.", f"{name}out")

        notes.insert(0, {"encoded": e, "p": p, "boundary": boundary, "valid": valid, "z": z, "decoded": out})
        q_last = rows_at(q, lengths[:, None])[:, 0]
        return out, [(encoder, q_last, z[:, -1], started | (lengths > 0), decoder), *inner]

    def trace(self, tokens: Tensor, states: list | None = None) -> tuple[Tensor, list, list[dict]]:
        """`forward`, and per stage what happened inside: tensors [B,T,...] over the positions of that stage."""
        notes: list[dict] = []
        states = self.initial_states(tokens.shape[0]) if states is None else states
        enter("stage.0.enc.0")
        x, states = self.level(0, see("in", self.embeddings(tokens)), None, states, notes)
        enter("head")
        return see("logits", self.lm_head(x)), states, notes

    def forward(self, tokens: Tensor, states: list | None = None) -> tuple[Tensor, list]:
        """tokens [B,T] -> logits [B,T,V] for the *next* token of each position, and the states after the last."""
        logits, states, _ = self.trace(tokens, states)
        return logits, states

    def step(self, token: Tensor, states: list) -> tuple[Tensor, list]:
        """One token [B] -> logits [B,V] and states: streaming inference, inner levels run for the rows with a boundary."""
        x, states = self.step_level(0, self.embeddings(token), states)
        return self.lm_head(x), states

    def step_level(self, s: int, x: Tensor, states: list) -> tuple[Tensor, list]:
        """x [B,D] at one position of level s -> [B,D], new states."""
        if s == len(self.stages):
            x, after = self.run(self.main, x[:, None], None, states[0], "main.", "main_norm")
            return x[:, 0], [after]
        stage, (encoder, q_last, z, started, decoder), inner = self.stages[s], states[0], states[1:]
        name = f"stage.{s}."
        e, encoder = self.run(stage.encoder, x[:, None], None, encoder, f"{name}enc.", f"{name}router")
        e = e[:, 0]
        codes = quantize_activation(e)
        p, boundary = boundary_probability(q_last, stage.router_k(codes))
        p, boundary = p.masked_fill(~started, 1.0), boundary | ~started
        rows = boundary.nonzero()[:, 0]
        if len(rows):
            y, after = self.step_level(s + 1, stage.widen(e[rows]), map_states(lambda v: v[rows], inner))
            inner = map_states(lambda v, new: v.index_copy(0, rows, new), inner, after)
            P = p[rows, None].clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
            z = z.index_copy(0, rows, P * y[:, : z.shape[1]] + (1 - P) * z[rows])
        h = (z + stage.residual(codes))[:, None]
        out, decoder = self.run(stage.decoder, h, None, decoder, f"{name}dec.", f"{name}out")
        return out[:, 0], [(encoder, stage.router_q(codes), z, torch.ones_like(started), decoder), *inner]

    def loss(
        self, tokens: Tensor, targets: Tensor, states: list | None = None, lesson: Lesson | None = None
    ) -> tuple[Tensor, list, dict]:
        """Mean nats per byte plus the ratio loss of every stage, new states, statistics.  `targets`: one byte later."""
        logits, states, notes = self.trace(tokens, states)
        total, statistics = byte_loss(logits, targets, lesson, self.cross_entropy)
        for s, (note, N) in enumerate(zip(notes, self.config.target)):
            positions = note["valid"].sum().clamp(min=1)
            share, mean = ((note[key] * note["valid"]).sum() / positions for key in ("boundary", "p"))
            total = total + self.config.ratio_weight * ratio_loss(share, mean, N)
            share, mean = share.item(), mean.item()
            statistics |= {f"boundaries_{s}": share, f"probability_{s}": mean, f"chunk_{s}": 1 / max(share, 1e-9)}
            self.watches[s].see(share)
        return total, states, statistics

    def lr_multiplier(self, name: str) -> float:
        """The factor on the learning rate of a parameter: that of its level, and that of routers."""
        c, parts = self.config, name.split(".")
        level = int(parts[1]) if parts[0] == "stages" else -1 if parts[0] == "main" else 0
        return c.lr_multiplier[level] * (c.router_lr if parts[-2].startswith("router") else 1.0)


def ratio_loss(share: Tensor, mean: Tensor, target: float) -> Tensor:
    """1 where the share of boundaries and their mean probability are both 1/target, more elsewhere (H-Net)."""
    return ((1 - share) * (1 - mean) + share * mean * (target - 1)) * target / (target - 1)


class RouterWatch:
    """Warns when a router has collapsed: for many steps nearly no boundaries or nearly everywhere one."""

    PATIENCE = 50  # steps

    def __init__(self, stage: int, target: float):
        self.stage, self.target, self.steps = stage, target, 0

    def see(self, share: float) -> None:
        """To be told the share of boundaries of every training step."""
        low, high = 0.25 / self.target, min(4 / self.target, 0.98)
        self.steps = self.steps + 1 if not low <= share <= high else 0
        if self.steps and self.steps % self.PATIENCE == 0:
            found, advice = (
                ("almost no boundaries", "lower model.target or")
                if share < low
                else ("boundaries almost everywhere", "raise model.target or")
            )
            warnings.warn(
                f"the router of stage {self.stage} has collapsed: {found} for {self.steps} steps, a share of {share:.4f} "
                f"where 1/{self.target:g} is wanted; {advice} model.ratio_weight, or lower train.lr, and start again "
                "from a checkpoint before the collapse",
                stacklevel=2,
            )


def map_states(f, *states):
    """f on every tensor of nested lists and tuples of the same structure."""
    if isinstance(states[0], Tensor):
        return f(*states)
    return type(states[0])(map_states(f, *parts) for parts in zip(*states))


Model = HNetBit  # the name by which lm.arch finds it
