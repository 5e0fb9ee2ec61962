"""Condition variables by topic, for one asyncio loop: a change wakes only the waiters that it concerns.

The caller notifies a topic after its change, without an `await` in between. A waiter checks its condition before each
wait and after each wake-up; nothing else runs between that check and the wait, so that no notification is missed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TypeVar

# An async actor serves 1,000 calls at a time, and a waiting caller may be dead.
LONGEST_WAIT_SECONDS = 20.0

T = TypeVar("T")


class WaitTopics:
    """Waiters by topic."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, set[asyncio.Future[None]]] = {}

    def notify(self, *topics: Hashable) -> None:
        """Wakes every waiter on these topics."""
        for topic in topics:
            for waiting in self._waiting.pop(topic, ()):
                if not waiting.done():
                    waiting.set_result(None)

    def notify_all(self) -> None:
        """Wakes every waiter."""
        self.notify(*list(self._waiting))

    async def wait_for(
        self,
        topic: Hashable,
        check: Callable[[], T | None],
        timeout_seconds: float,
        recheck_seconds: float = LONGEST_WAIT_SECONDS,
    ) -> T | None:
        """Returns the first result of `check`, or None after the timeout.

        Args:
            topic: Notified when `check` may have a result.
            check: Returns the result, or None. Called once more after the timeout.
            timeout_seconds: Capped at `LONGEST_WAIT_SECONDS`.
            recheck_seconds: Longest time between two checks without a notification.
        """
        deadline = time.monotonic() + min(timeout_seconds, LONGEST_WAIT_SECONDS)
        while (found := check()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await self._notified(topic, min(left, recheck_seconds))
        return found

    async def _notified(self, topic: Hashable, seconds: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, set()).add(waiting)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(waiting, seconds)
        finally:
            # Also after a cancelled call: a caller that died must leave nothing behind.
            others = self._waiting.get(topic)
            if others is not None:
                others.discard(waiting)
                if not others:
                    del self._waiting[topic]
