"""What a sweep does when its storage fails: it waits on a full disk, and ends in one line where nothing can be written.

The ledger has all that was written before, so a sweep that ends so is continued like any other.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sweeps.driver.interrupt import Interrupt
from trainables.errors import UserError
from trainables.reliability.disk_full import FULL, patient
from trainables.storage.working_copy import place_of

LOST = (errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, *FULL)
"""Errors of the storage, not of the program."""


class StorageLostError(UserError):
    """The sweep's folder could not be written any more while the sweep ran.

    Attributes:
        interrupted: Whether the user had ended the sweep by then.
    """

    interrupted = False


@contextmanager
def used_patiently(folder: Path, interrupt: Interrupt, console: Console) -> Iterator[None]:
    """While the block runs, this process's writes wait on a full disk until the user interrupts the sweep.

    Args:
        folder: The sweep's.
        interrupt: Ends the waiting.
        console: Where to say so.

    Raises:
        StorageLostError: The block failed by an error of the storage.
    """

    def say(text: str) -> None:
        console.print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)

    with patient(say, interrupt.is_set):
        try:
            yield
        except Exception as error:
            found = storage_error(error)
            if found is None:
                raise
            remedy = f"see to it, then continue: python -m sweeps.run --resume {place_of(folder)}"
            lost = StorageLostError(str(found.filename or folder), "must be writable", found.strerror, remedy)
            lost.interrupted = interrupt.is_set()
            raise lost from error


def storage_error(error: BaseException) -> OSError | None:
    """The error of the storage that another one came from, itself included; None if it came from none."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in LOST:
            return seen
        seen = seen.__cause__
    return None
