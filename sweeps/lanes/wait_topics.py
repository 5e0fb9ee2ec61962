"""Waiting for something to change: each waits for a topic, and a change wakes those alone whom it concerns.

For one asyncio loop. Whoever changes something rings its topic afterwards, without an `await` in between; whoever waits
looks again after each ring. Between a look and the wait that follows it nothing else runs, so that no ring is missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

LONGEST_WAIT_SECONDS = 20.0
"""No wait is longer: an async actor serves 1,000 calls at a time, and whoever asked may be gone."""

T = TypeVar("T")


class WaitTopics:
    """Who waits for what."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, set[asyncio.Future[None]]] = {}

    def notify(self, *topics: Hashable) -> None:
        """Has all look again who wait for one of the topics."""
        for topic in topics:
            for waiting in self._waiting.pop(topic, ()):
                if not waiting.done():
                    waiting.set_result(None)

    def notify_all(self) -> None:
        """Has everybody look again."""
        self.notify(*list(self._waiting))

    async def wait_for(
        self,
        topic: Hashable,
        look: Callable[[], T | None],
        timeout_seconds: float,
        look_again_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> T | None:
        """The first thing that a look finds, or None when the time is up.

        Args:
            topic: Rung when a look may find what the last one did not.
            look: Gives what was waited for, or None. Called once more when the time is up.
            timeout_seconds: `LONGEST_WAIT_SECONDS` at most.
            look_again_seconds: Looks so often even if nobody rings.
        """
        deadline = time.monotonic() + min(timeout_seconds, LONGEST_WAIT_SECONDS)
        while (found := look()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await self._rung(topic, min(left, look_again_seconds))
        return found

    async def _rung(self, topic: Hashable, seconds: float) -> None:
        """Waits for a ring, or so long."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, set()).add(waiting)
        try:
            await asyncio.wait_for(waiting, seconds)
        except TimeoutError:
            pass
        finally:
            others = self._waiting.get(topic)
            if others is not None:
                others.discard(waiting)
                if not others:
                    del self._waiting[topic]
