"""Straight-through quantisers: the float side of the rounding the engine does in integers.

Source: BitNet b1.58 (arXiv 2402.17764) as used by MatMul-free LM (arXiv 2406.02528).  Different here: the one scale of
a weight matrix is rounded to fp16 and embeddings to int8 rows *during training*, because that is what the file stores;
so export loses nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 1e-5  # smallest scale a quantiser divides by


def weight_codes(w: Tensor) -> tuple[Tensor, float]:
    """[rows, cols] float -> (codes int8 in {-1, 0, 1}, scale): w is approximated by scale * codes.  Absmean, scale in fp16.

    A parameter keeps its codes until it changes: every operation in place, as an optimizer's step, raises `_version`,
    and another memory has another address. Else sampling would spend half of its time on quantising the same weights
    for each byte.
    """
    state, kept = (w._version, w.data_ptr()), getattr(w, "codes", None)
    if kept is not None and kept[0] == state:
        return kept[1:]
    scale = w.detach().float().abs().mean().clamp(min=FLOOR).half().float()
    codes, scale = (w.detach() / scale).round_().clamp_(-1, 1).to(torch.int8), float(scale)
    if isinstance(w, nn.Parameter):
        w.codes = (state, codes, scale)
    return codes, scale


def embedding_codes(w: Tensor) -> tuple[Tensor, Tensor]:
    """[V, D] float -> (codes int8 [V, D] in [-127, 127], scale float32 [V]).  Absmax per row."""
    scale = w.detach().float().abs().amax(1).clamp(min=FLOOR) / 127
    return (w.detach() / scale[:, None]).round_().clamp_(-127, 127).to(torch.int8), scale


class PassThrough(torch.autograd.Function):
    """`value` forward, and the gradient goes to `x` as it is: two passes over memory less than x + (value - x).detach()."""

    @staticmethod
    def forward(ctx, x: Tensor, value: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


def quantize_activation(x: Tensor) -> Tensor:
    """Round each token's vector to 127 steps of its largest magnitude.  The gradient passes straight through."""
    with torch.no_grad():
        scale = x.abs().amax(-1, keepdim=True).clamp_(min=FLOOR) / 127
        value = (x / scale).round_().mul_(scale)
    return PassThrough.apply(x, value)


def straight_through(master: Tensor, codes: Tensor, scale: float | Tensor) -> Tensor:
    """The value scale * codes with the gradient of `master`."""
    return PassThrough.apply(master, codes.to(master.dtype) * scale)


class Normalize(torch.autograd.Function):
    """x * w / sqrt(mean(x^2) + eps) with half the passes over memory that autograd would make of it."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, eps: float) -> Tensor:
        r = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, w, r)
        return (x * r).mul_(w)

    @staticmethod
    def backward(ctx, g: Tensor):
        x, w, r = ctx.saved_tensors
        gx = g * x
        shrink = (gx @ w)[..., None] * r**3 / x.shape[-1]
        to_x = (g * w).mul_(r).addcmul_(x, shrink, value=-1)
        return to_x, r.flatten() @ gx.flatten(0, -2), None


class RMSNorm(nn.Module):
    """y = x * w / sqrt(mean(x^2) + eps) over the last dimension, in float32."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return Normalize.apply(x.float(), self.weight, self.eps)


class BitLinear(nn.Module):
    """RMSNorm -> int8 per token -> ternary matrix -> scales.  Master weights are float32 [rows, cols].

    ternary=False: the masters themselves.  Then `rounds` says whether its input becomes int8 all the same, as it does in
    the engine; a model that is trained in float does not.
    """

    def __init__(self, cols: int, rows: int, eps: float, ternary: bool = True):
        super().__init__()
        self.ternary = self.rounds = ternary
        self.weight = nn.Parameter(torch.empty(rows, cols).normal_(0, cols**-0.5))
        self.norm = RMSNorm(cols, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if self.rounds:
            x = quantize_activation(x)
        if not self.ternary:
            return F.linear(x, self.weight)
        return F.linear(x, straight_through(self.weight, *weight_codes(self.weight)))


class TernaryLinear(BitLinear):
    """A BitLinear without its norm."""

    def __init__(self, cols: int, rows: int):
        nn.Module.__init__(self)
        self.ternary = True
        self.weight = nn.Parameter(torch.empty(rows, cols).normal_(0, cols**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(quantize_activation(x), straight_through(self.weight, *weight_codes(self.weight)))


class Embedding(nn.Module):
    """A table of int8 rows, each with its own scale; exact: of the rows as they are, for a file that stores those."""

    def __init__(self, vocab: int, width: int):
        super().__init__()
        self.exact = False
        self.weight = nn.Parameter(torch.empty(vocab, width).normal_(0, 1.0))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.exact:
            return F.embedding(tokens, self.weight)
        codes, scale = embedding_codes(self.weight)
        return F.embedding(tokens, straight_through(self.weight, codes, scale[:, None]))
