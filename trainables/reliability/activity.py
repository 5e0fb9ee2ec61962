"""How far scoring and answering have come. The code that does them reports it; a lane passes it on to the live view.

As with the watchdog's beats, scoring code need not know the lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Doing = Literal["scoring", "answering"]
Listener = Callable[[Doing, float], None]

_listener: ContextVar[Listener | None] = ContextVar("activity", default=None)


def report(doing: Doing, done: int, total: int) -> None:
    """Reports how many items of a batch of work are done, to the function of this thread's `reported_to` block."""
    listener = _listener.get()
    if listener is not None and total:
        listener(doing, done / total)


@contextmanager
def reported_to(listener: Listener) -> Iterator[None]:
    """Within the block each report calls a function with what is done and the share of it, 0 to 1."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
