"""Rates of requests: token buckets by key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Rate(NamedTuple):
    """Requests that one key may make: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: float


MOST_KEYS = 10_000


class Limiter:
    """Token buckets by key. Thread-safe.

    Args:
        clock: Seconds; one that is never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._buckets: dict[Any, tuple[float, float]] = {}

    def passes(self, key: Any, rate: Rate) -> bool:
        """Whether one more request of this key is within its rate."""
        with self._lock:
            now = self._clock()
            if len(self._buckets) > MOST_KEYS:
                self._buckets.clear()
            left, since = self._buckets.get(key, (rate.burst, now))
            left = min(rate.burst, left + (now - since) * rate.per_second)
            self._buckets[key] = (max(0.0, left - 1), now)
            return left >= 1

    def is_spent(self, key: Any, rate: Rate) -> bool:
        """Whether the next request of this key would be one too many; it is not counted."""
        with self._lock:
            left, since = self._buckets.get(key, (rate.burst, 0.0))
            return left + (self._clock() - since) * rate.per_second < 1
