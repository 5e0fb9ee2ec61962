"""One writer at a time in a trial's folder: the latest attempt, unless an older driver sent it.

A lane that was given up for lost may live on, behind a broken network for hours. Where a folder's lock fails, lanes of
two drivers may train the same trial. So each attempt signs the folder when it begins, and checks before each write
that its signature still stands.
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


class Signature:
    """What one attempt at a trial writes to `writer.json`, in a folder or in an object store.

    Args:
        driver_epoch: Number of the driver that sent the attempt.
        text: What another worker of the same attempt has written; None to begin one.
    """

    def __init__(self, driver_epoch: int, text: str | None = None) -> None:
        self.driver_epoch = driver_epoch
        # Random: attempt numbers would not do, for a restarted dispatcher counts a trial's attempts from 1 again.
        self.text = text or json.dumps({"driver_epoch": driver_epoch, "attempt": uuid.uuid4().hex}) + "\n"

    def check_before_signing(self, place: object, found: str) -> None:
        """Raise `OvertakenError` if the signature found at a place is of a newer driver's attempt."""
        if found and (newer := json.loads(found)["driver_epoch"]) > self.driver_epoch:
            raise OvertakenError(f"{place}: driver {newer} has taken over from {self.driver_epoch}")

    def check_before_writing(self, place: object, found: str) -> None:
        """Raise `OvertakenError` if the signature found at a place is not this one."""
        if found != self.text:
            raise OvertakenError(f"{place}: another attempt at this trial has begun")


class WriterLock:
    """The right to write in a trial's folder.

    Args:
        folder: The trial's folder; it must exist when `begun` is called.
        driver_epoch: Number of the driver that sent this attempt.
    """

    def __init__(self, folder: Path, driver_epoch: int) -> None:
        self._folder, self._signature = folder, Signature(driver_epoch)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Sign the folder; no other attempt writes there inside the block.

        Raises:
            OvertakenError: A newer driver's attempt has signed it.
        """
        with self._locked() as file:
            self._signature.check_before_signing(self._folder, file.read())
            file.truncate(0)  # opened for appending: the next write goes to the end, which is now the start
            file.write(self._signature.text)
            file.flush()
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other attempt writes in the folder inside the block.

        Raises:
            OvertakenError: Another attempt has signed since.
        """
        with self._locked() as file:
            self._signature.check_before_writing(self._folder, file.read())
            yield

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        with (self._folder / WRITER_FILE).open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, and by the kernel after a kill
            file.seek(0)
            yield file
