"""One driver at a time: a file lock on the sweep's folder, which the system frees however its holder ends.

In an object store this separates drivers on one machine, and `sweeps.folder.driver_lock_in_store` all others.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from trainables.errors import UserError
from trainables.storage.layout import LOCK_FILE
from trainables.storage.working_copy import place_of

logger = logging.getLogger(__name__)

# A network file system frees the locks of a machine that was lost when its lease is over: on Linux's NFS server 90 s
# (`nfsd(7)`, nfsv4leasetime).
LEASE_SECONDS = 120.0
LOOK_EVERY_SECONDS = 1.0


@contextmanager
def one_driver(folder: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Holds `driver.lock` in a sweep's folder while the block runs; the folder may be renamed meanwhile.

    Args:
        folder: The sweep's.
        patience_seconds: How long a lock of another machine is waited for: its holder may be gone.

    Raises:
        UserError: Another driver holds it, or the folder can't be locked.
    """
    path = folder / LOCK_FILE
    # Child processes don't inherit the file (PEP 446), so a lane that outlives its driver doesn't keep the lock. The
    # file is never removed: between unlink and create two drivers could hold locks on different files.
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        remedy = "check its permissions and the file system"
        raise UserError(str(path), "must be writable", error.strerror, remedy) from None
    with file:
        try:
            _lock(file, place_of(folder), patience_seconds)
        except BlockingIOError:
            rule, remedy = "must have one driver at a time", "wait for its end, or stop it"
            raise UserError(place_of(folder), rule, _holder(file), remedy) from None
        except OSError as error:
            rule, remedy = "must lie where files can be locked", "mount the file system with locks"
            raise UserError(str(folder), rule, error.strerror, remedy) from None
        _sign(file)
        yield


def _lock(file: TextIO, place: str, patience_seconds: float) -> None:
    deadline, is_said = time.monotonic() + patience_seconds, False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # A dead process of this machine holds nothing.
            if _signed(file).get("host", socket.gethostname()) == socket.gethostname() or time.monotonic() > deadline:
                raise
        if not is_said:
            logger.warning("%s is locked by %s: waiting up to %g s", place, _holder(file), patience_seconds)
            is_said = True
        time.sleep(LOOK_EVERY_SECONDS)


def _sign(file: TextIO) -> None:
    file.truncate(0)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + "\n")
    file.flush()


def _holder(file: TextIO) -> str:
    holder = _signed(file)
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}" if holder else "another one"


def _signed(file: TextIO) -> dict[str, Any]:
    """What the holder wrote; empty where it has the lock and has not signed yet."""
    file.seek(0)
    try:
        holder = json.loads(file.read())
        return {name: holder[name] for name in ("pid", "host", "since")}
    except (ValueError, KeyError, TypeError):
        return {}
