"""One driver at a time in an object store: a lock object, created or replaced under conditions, and renewed.

Whether a lock is stale is decided by the store's clock only: the time at which it wrote the lock against that of an
object written just now. So the machines' clocks don't matter.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from trainables.errors import UserError
from trainables.storage.layout import CLOCK_KEY, LOCK_FILE
from trainables.storage.object_store import Found, Remote, StoreError, Version

logger = logging.getLogger(__name__)

RENEW_SECONDS = 20.0
STALE_SECONDS = 120.0  # without renewal, until another driver may take the lock: six renewals, so a few may fail
LOOK_EVERY_SECONDS = 2.0  # ours: at a lock that may have lost its holder


@contextmanager
def one_driver_in_store(remote: Remote | None) -> Iterator[None]:
    """Holds the sweep's lock while the block runs. Does nothing for a sweep in a plain folder.

    A lock of another machine is watched first, for its holder may be gone: until it is renewed or stale.

    Raises:
        UserError: Another driver holds it.
    """
    if remote is None:
        yield
        return
    me = {"token": uuid.uuid4().hex, "pid": os.getpid(), "host": socket.gethostname(), "machine": _machine()}
    me["since"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # A driver that loses the lock all the same, say by being suspended, is stopped at its next event in the ledger.
    version, ended = _take(remote, me), threading.Event()
    renewing = _Renewing(remote, me, version, ended)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        _release(renewing.remote, me, renewing.version)


def _take(remote: Remote, me: dict[str, Any]) -> Version:
    content = _content(me, 0)
    if created := remote.create(LOCK_FILE, content):
        return created
    found = _abandoned(remote)
    taken = remote.replace(LOCK_FILE, content, found.version) if found else remote.create(LOCK_FILE, content)
    if not taken:
        raise UserError(remote.url, "must have one driver at a time", "another that began just now", "wait for its end")
    return taken


def _abandoned(remote: Remote) -> Found | None:
    """Returns the lock once it may be taken; None if there is none any more."""
    # A job that Slurm or KubeRay runs again after its node was lost meets the lock of its own driver, which is gone.
    watched: Version | None = None
    while (found := remote.read(LOCK_FILE)) and not _may_be_taken(remote, found):
        holder = json.loads(found.data)
        got = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        if holder["machine"] == _machine() or watched not in (None, found.version):
            raise UserError(remote.url, "must have one driver at a time", got, "wait for its end, or stop it")
        if watched is None:
            logger.warning("%s is locked by %s: waiting for a sign of life, %g s", remote.url, got, STALE_SECONDS)
        watched = found.version
        time.sleep(LOOK_EVERY_SECONDS)
    return found


def _may_be_taken(remote: Remote, found: Found) -> bool:
    holder = json.loads(found.data)
    # A driver that was killed on this very machine need not be waited for.
    if holder["released"] or (holder["machine"] == _machine() and not psutil.pid_exists(holder["pid"])):
        return True
    return _store_seconds(remote) - found.unix_seconds > STALE_SECONDS


def _store_seconds(remote: Remote) -> float:
    """Reads the store's clock."""
    remote.put(CLOCK_KEY, uuid.uuid4().hex.encode())
    found = remote.read(CLOCK_KEY)
    assert found
    return found.unix_seconds


class _Renewing(threading.Thread):
    """Renews the lock until the driver ends or has lost it."""

    def __init__(self, remote: Remote, me: dict[str, Any], version: Version, ended: threading.Event) -> None:
        super().__init__(daemon=True, name="driver-lock")
        self.remote = Remote(remote.url, patience_seconds=RENEW_SECONDS)
        self.me, self.version = me, version
        self.ended = ended

    def run(self) -> None:
        beat = 0
        while not self.ended.wait(RENEW_SECONDS):
            beat += 1
            try:
                renewed = self.remote.replace(LOCK_FILE, _content(self.me, beat), self.version)
            except StoreError:  # `Remote` has warned; the lock lives on for a while
                continue
            if renewed is None:
                logger.warning("%s: another driver has taken over", self.remote.url)
                return
            self.version = renewed


def _release(remote: Remote, me: dict[str, Any], version: Version) -> None:
    # Marked, not deleted: the object says who held the lock last.
    try:
        remote.replace(LOCK_FILE, _content(me, -1), version)
    except StoreError as error:
        logger.warning("the lock stays until it is stale: %s", error)


def _content(me: dict[str, Any], beat: int) -> bytes:
    return (json.dumps({**me, "beat": beat, "released": beat < 0}) + "\n").encode()


def _machine() -> str:
    """Identifies this machine since its boot, with the namespace of its process ids."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), "/proc/self/ns/pid"
    known = f"{boot.read_text().strip()} {os.readlink(space)}" if boot.exists() else ""
    return f"{socket.gethostname()} {known}".strip() if known else uuid.uuid4().hex
