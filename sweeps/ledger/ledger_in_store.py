"""The ledger in an object store, where nothing can be appended to: an object for each event, never overwritten.

`ledger/EPOCH-NUMBER.jsonl` holds one line; epochs and numbers count from 1 without a gap. A driver that begins takes
the next epoch by creating `drivers/EPOCH.json`, which only one can, and then closes the ledger of every earlier epoch:
it creates the next object of that epoch itself. An older driver that still lives finds its next number taken, and ends;
what it wrote before is older than all that the new one writes. So the objects in order of their names are the ledger,
and no clock decides.
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
    """The ledger's objects, as one driver writes them.

    Args:
        remote: The sweep's folder.
        epoch: The driver's.
    """

    def __init__(self, remote: Remote, epoch: int) -> None:
        self.remote, self.epoch, self._next = remote, epoch, FIRST
        self._waiting: list[str] = []

    @classmethod
    def of_new_driver(cls, remote: Remote, own: Iterable[tuple[int, str]], seal: Callable[..., str]) -> StoreLedger:
        """Takes the next epoch and closes those before.

        Args:
            remote: The sweep's folder.
            own: Epoch and line of each event in this node's ledger: where the last driver ran here and could not reach
                the store at its end, its last events are brought there first, unless another driver has begun since.
            seal: Makes a line of an event.
        """
        newest = max(driver_epochs(remote), default=0)
        _complete(remote, newest, [line for epoch, line in own if epoch == newest])
        epoch = newest + 1
        while not remote.create(driver_key(epoch), _signed()):
            epoch += 1
        written = numbers(remote)
        for earlier in range(1, epoch):
            _close(remote, earlier, written.get(earlier, 0), epoch, seal)
        return cls(remote, epoch)

    def append(self, line: str) -> None:
        """Writes the next event, after those that could not be written before; on return it is in the store.

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
    """Puts an end to an epoch of so many events, unless it has one; what its driver writes meanwhile comes before."""
    if number and is_closing(remote.get(key_of(epoch, number)) or b""):
        return
    event = {"event": CLOSED, "driver_epoch": epoch, "by": by, "unix_seconds": round(time.time(), 3)}
    line = seal(event).encode()
    while not remote.create(key_of(epoch, number + 1), line):
        number += 1


def _complete(remote: Remote, epoch: int, lines: list[str]) -> None:
    """Brings what the newest driver wrote on this node and not to the store; nothing if it is not the same ledger."""
    there = numbers(remote).get(epoch, 0)
    if not 0 < there <= len(lines) or remote.get(key_of(epoch, there)) != lines[there - 1].encode():
        return
    for number, line in enumerate(lines[there:], start=there + 1):
        if not remote.create(key_of(epoch, number), line.encode()):
            return


def numbers(remote: Remote) -> Numbers:
    """How many events each epoch has."""
    found: Numbers = {}
    for key in remote.listed(LEDGER_PARTS.rstrip("/")):
        epoch, number = key.removeprefix(LEDGER_PARTS).removesuffix(".jsonl").split("-")
        found[int(epoch)] = max(found.get(int(epoch), 0), int(number))
    return found


def driver_key(epoch: int) -> str:
    """Where a driver says that it has begun."""
    return f"{DRIVERS}{epoch:06d}.json"


def key_of(epoch: int, number: int) -> str:
    """Where an event lies; the names' order is the events'."""
    return f"{LEDGER_PARTS}{epoch:06d}-{number:08d}.jsonl"


def is_closing(line: bytes) -> bool:
    """Whether a line is the end of an epoch."""
    return f'"event":"{CLOSED}"'.encode() in line


def _signed() -> bytes:
    """Unlike what any other driver creates."""
    return (json.dumps({"token": uuid.uuid4().hex, "unix_seconds": round(time.time(), 3)}) + "\n").encode()
