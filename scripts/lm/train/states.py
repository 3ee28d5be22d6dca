"""What a model carries from one window of a text to the next, whatever its shape.

States are nests of lists and tuples; in them tensors, whose first dimension is the row of the batch, None and plain
values, which are the same for all rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def mapped(states, change: Callable[[Tensor], Tensor]):
    """The same nest with every tensor changed."""
    if isinstance(states, (list, tuple)):
        return type(states)(mapped(part, change) for part in states)
    return change(states) if isinstance(states, Tensor) else states


def detached(states):
    """The same values, cut off from the steps that made them."""
    return mapped(states, Tensor.detach)


def rows(states, first: int, count: int):
    """The states of `count` rows of the batch."""
    return mapped(states, lambda tensor: tensor[first : first + count])


def joined(parts: list):
    """The states of a batch from those of its parts, in order."""
    if isinstance(parts[0], (list, tuple)):
        return type(parts[0])(joined(list(same)) for same in zip(*parts))
    return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]
