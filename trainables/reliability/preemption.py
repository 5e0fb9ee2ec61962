"""Preemption of a lane's node: spot capacity that is taken back, or a node that is drained by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

# Clouds give a notice of 30 seconds (Azure, Google) or two minutes (AWS). Asking is a barrier of the workers: 3-4 ms.
ASK_EVERY_SECONDS = 2.0


class Preemption:
    """Polls for a preemption notice and remembers it.

    Args:
        ask: Tells whether a node of the lane is about to go. All workers call it together and get the same answer.
        clock: Monotonic clock, in seconds.

    Attributes:
        is_coming: The last answer.
    """

    def __init__(self, ask: Callable[[], bool] = lambda: False, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self.is_coming = False
        self._next = clock() + ASK_EVERY_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether this worker's clock says that it is time to ask; the workers agree on it before they ask."""
        return self.is_coming or self._clock() >= self._next

    def check(self) -> bool:
        """Ask unless a notice is known; return whether the lane must leave. All workers call this together."""
        if not self.is_coming:
            self.is_coming = self._ask()
            self._next = self._clock() + ASK_EVERY_SECONDS
        return self.is_coming
