"""A full disk: a sweep's writes wait for room and are made again, instead of failing.

A process of a sweep says `with patient(...)` once. Elsewhere, in a command that reads a sweep, a full disk is an error.
"""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

logger = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
RETRY_SECONDS = 5.0
REMIND_SECONDS = 600.0

T = TypeVar("T")


@dataclass
class Patience:
    """What a process does about a full disk.

    Attributes:
        say: Tells the user.
        given_up: Whether the sweep is to end: then a write fails after all.
        retry_seconds: Pause before a write is made again.
        waiting: Writes that wait now.
    """

    say: Callable[[str], None]
    given_up: Callable[[], bool]
    retry_seconds: float = RETRY_SECONDS
    waiting: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Inside, one more write waits."""
        with self.lock:
            self.waiting += 1
        try:
            yield
        finally:
            with self.lock:
                self.waiting -= 1


_patience: list[Patience] = []
"""The process's, innermost last."""


@contextmanager
def patient(
    say: Callable[[str], None] = logger.warning,
    given_up: Callable[[], bool] = lambda: False,
    retry_seconds: float = RETRY_SECONDS,
) -> Iterator[Patience]:
    """While the block runs, writes of this process, on all threads, wait where a disk is full; see `Patience`."""
    patience = Patience(say, given_up, retry_seconds)
    _patience.append(patience)
    try:
        yield patience
    finally:
        _patience.remove(patience)


def is_waiting() -> bool:
    """Whether a write of this process waits for room now."""
    return any(patience.waiting for patience in _patience)


def patiently(where: Path, write: Callable[[], T]) -> T:
    """Makes a write; where the disk is full and the process is patient, again and again until there is room.

    Args:
        where: The file or folder that is written, for the user.
        write: Leaves nothing half-written when it raises `OSError`.

    Raises:
        OSError: As `write` raises it; for a full disk only where the process is not patient, or gives up.
    """
    said_at: float | None = None
    while True:
        try:
            done = write()
        except OSError as error:
            if error.errno not in FULL or not _patience or _patience[-1].given_up():
                raise
            patience = _patience[-1]
            if said_at is None or time.monotonic() - said_at > REMIND_SECONDS:
                said_at = time.monotonic()
                patience.say(full_words(where, error))
            with patience.counted():
                time.sleep(patience.retry_seconds)
        else:
            if said_at is not None and _patience:
                _patience[-1].say(f"there is room again: {where} is written, the sweep goes on")
            return done


def full_words(where: Path, error: OSError) -> str:
    """What a user is told of a full disk."""
    return (
        f"{where} can't be written ({error.strerror}, {_free(where)} free): "
        "the sweep waits, and goes on when there is room; Ctrl-C ends it"
    )


def _free(where: Path) -> str:
    folder = next(place for place in (where, *where.absolute().parents) if place.exists())
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
