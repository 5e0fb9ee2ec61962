"""A reader of a driver's stdout that leaves, as `| head` does, or a `tee` that is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Reader:
    """Reads each driver's stdout until it leaves.

    Args:
        seconds: After how many seconds it leaves, of each driver in turn; none: there is no reader, and stdout is a
            file.
    """

    def __init__(self, seconds: tuple[float, ...]) -> None:
        self._seconds, self._leaves, self._end = seconds, 0.0, -1

    @contextmanager
    def pipe(self, start: int) -> Iterator[int | None]:
        """Yields the end of a pipe for the stdout of a driver, by the number of its start; None without a reader."""
        self._leave()
        if not self._seconds:
            yield None
            return
        self._end, written = os.pipe()
        os.set_blocking(self._end, False)
        self._leaves = time.monotonic() + self._seconds[(start - 1) % len(self._seconds)]
        try:
            yield written
        finally:
            os.close(written)

    def read(self) -> None:
        """Reads what there is, and leaves when it is time."""
        if self._end >= 0:
            with suppress(BlockingIOError):
                os.read(self._end, 65536)
            if time.monotonic() > self._leaves:
                self._leave()

    def _leave(self) -> None:
        if self._end >= 0:
            os.close(self._end)
            self._end = -1
