"""Hidden dropout: in training, elements of what a block adds to the residual stream are left out at random."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def drop_hidden(model: nn.Module, share: float) -> None:
    """From now on each block's contribution loses about `share` of its elements; the rest grows by 1 / (1 - share).

    Only while the model is in training mode.  Around `model.block_forward`, so with fused blocks as well.
    """
    inner = model.block_forward

    def block_forward(block, h: Tensor, keep: Tensor, state: Tensor, tail: Tensor, lengths: Tensor | None = None):
        out, state, tail = inner(block, h, keep, state, tail, lengths)
        if not model.training:
            return out, state, tail
        dropped = h + F.dropout(out - h, share)
        if lengths is not None:  # past the end of a row a block's output is zero
            dropped = dropped * (torch.arange(h.shape[1], device=h.device) < lengths.to(h.device)[:, None])[:, :, None]
        return dropped, state, tail

    model.block_forward = block_forward


def seed(*numbers: int) -> None:
    """Makes the dropout of a step depend on these numbers alone, so that a resumed run drops what it would have dropped."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 0x9E3779B1 + number + 1) % 2**63
    torch.manual_seed(mixed)
