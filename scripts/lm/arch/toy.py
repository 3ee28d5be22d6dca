"""The toy architecture of models/FORMAT.md in PyTorch: what the tests of the engine hold its toy.cc against.

A gated linear recurrence, whose state at half the position is added to the one at the position: so the memory of a text
grows with it.  It is not among lm.arch.NAMES, since nothing trains it: tests/py/test_toy.py writes its files.

Glossary: B batch, T time, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.arch.scan import scan_loop
from lm.arch.ternary import BitLinear, Embedding, RMSNorm


@dataclass(frozen=True)
class Config:
    vocab_size: int = 256
    hidden: int = 40
    layers: int = 2
    context: int = 64
    eps: float = 1e-6

    def keys(self) -> dict[str, int | float]:
        return {
            "toy.block_count": self.layers,
            "toy.embedding_length": self.hidden,
            "toy.context_length": self.context,
            "toy.vocab_size": self.vocab_size,
            "toy.norm_rms_epsilon": self.eps,
        }


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.norm = RMSNorm(c.hidden, c.eps)
        self.i_proj, self.f_proj, self.o_proj = (BitLinear(c.hidden, c.hidden, c.eps) for _ in range(3))

    def forward(self, h: Tensor) -> Tensor:
        """h [B,T,D] of whole texts -> [B,T,D]"""
        a = self.norm(h)
        s = scan_loop(torch.sigmoid(-self.f_proj(a)), F.silu(self.i_proj(a)), torch.zeros_like(h[:, 0]))
        return h + self.o_proj(s + s[:, torch.arange(h.shape[1]) // 2])


class Toy(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.embeddings = Embedding(c.vocab_size, c.hidden)
        self.layers = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.hidden, c.eps)
        self.lm_head = BitLinear(c.hidden, c.vocab_size, c.eps)

    def forward(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        """tokens [B,T] -> the residual stream after every block, and the logits [B,T,V] for the token after each."""
        h, hs = self.embeddings(tokens), []
        for layer in self.layers:
            h = layer(h)
            hs.append(h)
        return hs, self.lm_head(self.norm(h))

    def rows(self) -> Iterator[tuple[str, nn.Module]]:
        """(GGUF tensor or what its names begin with, module) of everything that the file has."""
        yield "token_embd", self.embeddings
        for n, layer in enumerate(self.layers):
            yield f"blk.{n}.norm.weight", layer.norm
            yield f"blk.{n}.in", layer.i_proj
            yield f"blk.{n}.forget", layer.f_proj
            yield f"blk.{n}.out", layer.o_proj
        yield "output_norm.weight", self.norm
        yield "output", self.lm_head


def randomized(config: Config, seed: int) -> Toy:
    """A model whose every parameter is random, norms too, so that no factor hides as 1."""
    torch.manual_seed(seed)
    model = Toy(config)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()
