"""One writer at a time in a trial's folder: whoever began last, unless an older driver sent it.

A lane that was given up for lost may still live for a moment, or on the far side of a broken network for hours; and
where a folder's lock fails two drivers may have lanes at the same trial. Each attempt at a trial signs the folder when
it begins, and looks before each write, under a lock, whether its signature still stands.
"""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainables.storage.layout import WRITER_FILE


class OvertakenError(RuntimeError):
    """Another attempt at the same trial has begun: this one must not write any more."""


class WriterLock:
    """The right to write in a trial's folder.

    Args:
        folder: The trial's; it exists when `begin` is called.
        driver_epoch: Number of the driver that sent this attempt.
    """

    def __init__(self, folder: Path, driver_epoch: int) -> None:
        self._path, self._driver_epoch, self._name = folder / WRITER_FILE, driver_epoch, uuid.uuid4().hex

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Signs the folder; inside, nobody else writes there.

        Raises:
            OvertakenError: A newer driver's attempt has signed it.
        """
        with self._locked() as file:
            if (text := file.read()) and (newer := json.loads(text)["driver_epoch"]) > self._driver_epoch:
                raise OvertakenError(f"{self._path.parent}: driver {newer} has taken over from {self._driver_epoch}")
            self._sign(file)
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Inside, nobody else writes there.

        Raises:
            OvertakenError: Another attempt has signed since.
        """
        with self._locked() as file:
            text = file.read()
            if not text or json.loads(text)["attempt"] != self._name:
                raise OvertakenError(f"{self._path.parent}: another attempt at this trial has begun")
            yield

    def _sign(self, file: IO[str]) -> None:
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"driver_epoch": self._driver_epoch, "attempt": self._name}) + "\n")
        file.flush()

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        with self._path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield file
