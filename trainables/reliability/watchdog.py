"""Watchdog: ends a worker that makes no progress, for a hung step would hold its lane for ever.

Code that makes progress calls `beat`. When no beat comes in time, a thread reports the stacks of all threads and ends
the process.
"""

from __future__ import annotations

import faulthandler
import os
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Both are our choice. A first step may compile and a write of a large model may take minutes: below the floor a silence
# is a hang only if the config says so.
FLOOR_SECONDS = 600.0
STEPS_MISSED = 50  # in median steps

TICKS_A_LIMIT, LONGEST_TICK_SECONDS = 20, 5.0
HUNG_EXIT_CODE = 70

_last_beat = time.monotonic()
_last_step: float | None = None
_step_seconds: deque[float] = deque(maxlen=50)


def beat() -> None:
    """Record progress: a scoring batch, a write."""
    global _last_beat
    _last_beat = time.monotonic()


def step_done() -> None:
    """Record a training step."""
    global _last_step
    beat()
    if _last_step is not None:
        _step_seconds.append(_last_beat - _last_step)
    _last_step = _last_beat


def auto_limit(step_seconds: list[float]) -> float:
    """The silence, in seconds, that counts as a hang if the config names none, from the last steps' durations."""
    return max(FLOOR_SECONDS, STEPS_MISSED * statistics.median(step_seconds) if step_seconds else 0.0)


class Watchdog(threading.Thread):
    """Watches this process while it is on duty.

    Args:
        limit_seconds: The silence that counts as a hang; None for `auto_limit` of the last steps.
        on_hung: Called with the stacks of all threads and, as the last line, a summary; it must return soon.
        end: Ends the process; nothing less frees what a hung kernel or a dead file system holds.
    """

    def __init__(
        self, limit_seconds: float | None, on_hung: Callable[[str], None], end: Callable[[int], object] = os._exit
    ) -> None:
        super().__init__(daemon=True, name="watchdog")
        self._limit_seconds, self._on_hung, self._end = limit_seconds, on_hung, end
        self._duty = threading.Event()

    @property
    def limit_seconds(self) -> float:
        """The silence that counts as a hang now."""
        return auto_limit(list(_step_seconds)) if self._limit_seconds is None else self._limit_seconds

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """Require progress inside the block."""
        global _last_step
        _last_step = None
        _step_seconds.clear()
        beat()
        self._duty.set()
        try:
            yield
        finally:
            self._duty.clear()

    def run(self) -> None:
        """Watch until the process ends."""
        while True:
            self._duty.wait()
            limit = self.limit_seconds
            time.sleep(min(LONGEST_TICK_SECONDS, limit / TICKS_A_LIMIT))
            silence = time.monotonic() - _last_beat
            if self._duty.is_set() and silence > limit:
                self._on_hung(f"{all_stacks()}\n{hung_words(silence, limit)}")
                self._end(HUNG_EXIT_CODE)
                return


def hung_words(silence_seconds: float, limit_seconds: float) -> str:
    """The user's message about a hang."""
    return (
        f"hung: no step, scoring batch or write got done for {silence_seconds:.0f} s, "
        f"more than {limit_seconds:.0f} s (resources.hung_after_seconds)"
    )


def all_stacks() -> str:
    """Stacks of all threads of this process."""
    with tempfile.TemporaryFile("w+") as file:  # faulthandler writes to a file descriptor, not to a stream in memory
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().rstrip()
