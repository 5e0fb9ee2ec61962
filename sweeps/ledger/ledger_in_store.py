"""The ledger in an object store, where nothing can be appended: an object for each event, never overwritten.

`ledger/EPOCH-NUMBER.jsonl` holds one line; epochs and numbers count from 1 without a gap. A driver takes an epoch by
creating `drivers/EPOCH.json`, which only one can. Then it closes every earlier epoch by creating that epoch's next
object. An older driver that still lives finds its next number taken, and ends. So the objects in the order of their
names are the ledger, and no clock is involved.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable

from trainables.errors import UserError
from trainables.storage.layout import DRIVERS, LEDGER_PARTS
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import driver_epochs

CLOSED = "driver_closed"
FIRST = 1

Numbers = dict[int, int]


class SupersededError(UserError):
    """Another driver has taken over the sweep; this one must end."""

    def __init__(self, url: str) -> None:
        rule, remedy = "must have one driver at a time", "this one ends: nothing that it does counts any more"
        super().__init__(url, rule, "a newer driver that has taken over", remedy)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.where,)


class StoreLedger:
    """Writes one driver's events as objects.

    Args:
        remote: The sweep's place in the store.
        epoch: The driver's number.
    """

    def __init__(self, remote: Remote, epoch: int) -> None:
        self.remote, self.epoch = remote, epoch
        self._next = FIRST
        self._waiting: list[str] = []  # written to the disk, and not yet to the store

    @classmethod
    def of_new_driver(cls, remote: Remote, own: Iterable[tuple[int, str]], seal: Callable[..., str]) -> StoreLedger:
        """Takes the next epoch and closes those before.

        Args:
            remote: The sweep's place in the store.
            own: Epoch and line of each event in this node's ledger.
            seal: Makes a line of an event.
        """
        newest = max(driver_epochs(remote), default=0)
        # The last driver may have run on this node and lost the store at its end: its last events are uploaded first.
        _complete(remote, newest, [line for epoch, line in own if epoch == newest])
        epoch = newest + 1
        while not remote.create(driver_key(epoch), _signed()):
            epoch += 1
        written = numbers(remote)
        for earlier in range(1, epoch):
            _close(remote, earlier, written.get(earlier, 0), epoch, seal)
        return cls(remote, epoch)

    def append(self, line: str) -> None:
        """Writes the next event to the store, after those that could not be written before.

        Raises:
            SupersededError: A newer driver has begun.
            StoreError: The store can't be written.
        """
        self._waiting.append(line)
        while self._waiting:
            if not self.remote.create(key_of(self.epoch, self._next), self._waiting[0].encode()):
                raise SupersededError(self.remote.url)
            self._waiting.pop(0)
            self._next += 1


def _close(remote: Remote, epoch: int, number: int, by: int, seal: Callable[..., str]) -> None:
    """Appends a closing event to an epoch of `number` events, unless it has one."""
    if number and is_closing(remote.get(key_of(epoch, number)) or b""):
        return
    event = {"event": CLOSED, "driver_epoch": epoch, "by": by, "unix_seconds": round(time.time(), 3)}
    line = seal(event).encode()
    # The epoch's driver may still write; what it manages to create first counts, and the next number is tried.
    while not remote.create(key_of(epoch, number + 1), line):
        number += 1


def _complete(remote: Remote, epoch: int, lines: list[str]) -> None:
    """Uploads what the newest driver wrote on this node and not to the store."""
    there = numbers(remote).get(epoch, 0)
    # Unless the last common line differs: then the newest driver ran on another node, under the same number.
    if not 0 < there <= len(lines) or remote.get(key_of(epoch, there)) != lines[there - 1].encode():
        return
    for number, line in enumerate(lines[there:], start=there + 1):
        if not remote.create(key_of(epoch, number), line.encode()):
            return  # another driver has closed the epoch meanwhile


def numbers(remote: Remote) -> Numbers:
    """Returns the number of events of each epoch."""
    found: Numbers = {}
    for key in remote.listed(LEDGER_PARTS.rstrip("/")):
        epoch, number = key.removeprefix(LEDGER_PARTS).removesuffix(".jsonl").split("-")
        found[int(epoch)] = max(found.get(int(epoch), 0), int(number))
    return found


def driver_key(epoch: int) -> str:
    return f"{DRIVERS}{epoch:06d}.json"


def key_of(epoch: int, number: int) -> str:
    # Fixed widths: names in their order are events in theirs.
    return f"{LEDGER_PARTS}{epoch:06d}-{number:08d}.jsonl"


def is_closing(line: bytes) -> bool:
    return f'"event":"{CLOSED}"'.encode() in line


def _signed() -> bytes:
    # A token: after a lost answer `create` compares contents to see whether the object is its own.
    return (json.dumps({"token": uuid.uuid4().hex, "unix_seconds": round(time.time(), 3)}) + "\n").encode()
