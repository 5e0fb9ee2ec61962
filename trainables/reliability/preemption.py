"""Whether the lane's node is about to go: spot capacity that is taken back, or a node that is drained by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

ASK_EVERY_SECONDS = 2.0
"""Clouds give 30 seconds (Azure, Google) or two minutes (AWS). To ask is a barrier of the workers: 3-4 ms."""


def never() -> bool:
    """No node ever goes."""
    return False


class Preemption:
    """Asks now and then, and remembers a yes.

    Args:
        ask: Whether a node of this lane's workers is to go. All workers call it together and get the same answer.
        clock: Seconds that pass evenly.

    Attributes:
        is_coming: What the last answer was.
    """

    def __init__(self, ask: Callable[[], bool] = never, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self.is_coming = False
        self._next = clock() + ASK_EVERY_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether this worker would ask now. Workers agree on it before they do."""
        return self.is_coming or self._clock() >= self._next

    def look(self) -> bool:
        """Whether the lane is to leave; asks unless that is known. All workers call this together."""
        if not self.is_coming:
            self.is_coming = self._ask()
            self._next = self._clock() + ASK_EVERY_SECONDS
        return self.is_coming
