"""What a long job is at, beside its steps: the code that scores or answers tells, and a lane reports it.

As with the watchdog's beats, who computes need not know who listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Doing = Literal["scoring", "answering"]
Listener = Callable[[Doing, float], None]

_listener: ContextVar[Listener | None] = ContextVar("activity", default=None)


def tell(doing: Doing, done: int, total: int) -> None:
    """Tell whoever listens in this thread how many of the items at hand are scored or answered."""
    listener = _listener.get()
    if listener is not None and total:
        listener(doing, done / total)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have a function called with what is done and the share of it, 0 to 1, within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
