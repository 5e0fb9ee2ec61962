"""Errors of the storage, such as a full disk: they end the sweep with one line, and it can be resumed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from analysis.cli import INTERRUPTED, NO_COMPLETE_TRIAL
from sweeps.driver.interrupt import Interrupt
from trainables.errors import DISK_FULL, UserError, os_error
from trainables.storage.layout import SWEEP_FILE
from trainables.storage.working_copy import place_of

LOST = (errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, *DISK_FULL)
"""Errors of the storage, not of the program."""


class StorageLostError(UserError):
    """The sweep's folder could not be written any more while the sweep ran.

    Attributes:
        exit_code: 130 if the user had ended the sweep by then, else 3.
    """

    exit_code = NO_COMPLETE_TRIAL


@contextmanager
def reported_in_one_line(folder: Path, interrupt: Interrupt) -> Iterator[None]:
    """Turn a storage error of the block into a `StorageLostError`; say with a KeyboardInterrupt how to go on.

    Args:
        folder: The sweep's folder.
        interrupt: Tells whether the user had ended the sweep.

    Raises:
        StorageLostError: The block failed by an error of the storage.
    """
    resume = f"python -m sweeps.run --resume {quote(place_of(folder))}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"continue it: {resume}" if (folder / SWEEP_FILE).is_file() else "") from None
    except Exception as error:
        found = storage_error(error)
        if found is None:
            raise
        action = "free space" if found.errno in DISK_FULL else "see to it"
        remedy = f"{action}, then continue: {resume}" if folder.exists() else f"{action}, then start it again"
        lost = StorageLostError(str(found.filename or folder), "must be writable", found.strerror, remedy)
        lost.exit_code = INTERRUPTED if interrupt.is_set() else NO_COMPLETE_TRIAL
        raise lost from error


def storage_error(error: BaseException) -> OSError | None:
    """The error of the storage that an error is or came from, if any."""
    return os_error(error, LOST)
