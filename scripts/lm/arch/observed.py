"""One hook for all that looks inside a model: it is shown the result of every named operation and may give another in its place.

The operations and the parts they are in have the names that `tern_trace` gives them; a test holds the two together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

# feed(part, operation, value): what the operations after this one get, where `value` was computed
Feed = Callable[[str, str, Tensor], Tensor]
_feed: Feed | None = None
_part = ""


@contextmanager
def observing(feed: Feed) -> Iterator[None]:
    """While the block runs, `feed` is shown what models compute (fused blocks excepted)."""
    global _feed
    _feed = feed
    try:
        yield
    finally:
        _feed = None


def enter(part: str) -> None:
    """The operations that follow are in this part of the model."""
    global _part
    _part = part


def see(operation: str, value: Tensor) -> Tensor:
    return value if _feed is None else _feed(_part, operation, value)


def observed() -> bool:
    return _feed is not None
