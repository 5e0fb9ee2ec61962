"""The service's queue: a log with the ledger's own rules, so that a kill at any moment loses nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sweeps.ledger.ledger import Ledger
from sweeps.service.queue.entries import ENDED, PAUSED, QUEUED, RUNNING, Entries, Entry, apply, fold
from trainables.errors import UserError

SERVICE_FOLDER = ".service"  # in the storage; hidden from the index


class ConflictError(UserError):
    """The sweep's state, or another sweep of the name, stands against it."""


class Queue:
    """The sweeps that were sent. Thread-safe; one process at a time, which holds the folder's driver lock.

    Args:
        folder: The service's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()  # hold it to decide on what `entries` say
        self.entries: Entries = {}
        self.changes = 0  # events recorded by this service
        self.scheduler = ""  # Slurm or Kueue, where one orders the queue
        self.shares_cluster = False  # whether several sweeps run at once on a cluster
        self.waits_for: dict[str, str] = {}  # what sweeps that were handed to a scheduler wait for there, by name
        self._ledger = Ledger.of_new_driver(folder)
        for event in self._ledger.read()[0]:
            apply(self.entries, event)

    def record(self, kind: str, name: str, **fields: Any) -> Entry:
        """Writes an event, waits until it is on the disk, and returns the entry as it is now.

        Raises:
            OSError: It can't be written; the entry is as before.
        """
        with self.lock:
            self._ledger.append(kind, name=name, **fields)
            apply(self.entries, {"event": kind, "name": name, "unix_seconds": time.time(), **fields})
            self.changes += 1  # after the entry has changed: what is joined for this number is never older
            found = [entry for entry in self.entries.values() if fold(entry.name) == fold(name)]
            return max(found, key=lambda entry: entry.number)

    def config(self, entry: Entry) -> Path:
        """The config of a sweep that was sent, as it runs."""
        return self.folder / "sent" / f"{entry.key}.yaml"

    def get(self, name: str) -> Entry | None:
        return self.entries.get(fold(name))

    def sent_as(self, user: str, client_id: str) -> Entry | None:
        """The sweep that a user sent under this id."""
        with self.lock:
            sent = (entry for entry in self.entries.values() if (entry.user, entry.client_id) == (user, client_id))
            return next(sent, None)

    def stop(self, name: str) -> Entry:
        """Ends a sweep: a queued or paused one at once, a running one as by Ctrl-C."""
        with self.lock:
            entry = self._in(name, QUEUED, PAUSED, RUNNING)
            if entry.state == RUNNING:
                return self.record("asked", entry.name, what="stop")
            return self.record("ended", entry.name, outcome="stopped", error="", device_seconds=entry.device_seconds)

    def pause(self, name: str) -> Entry:
        """Holds a queued sweep back, or interrupts a running one, until it is resumed."""
        with self.lock:
            entry = self._in(name, QUEUED, RUNNING)
            if entry.state == RUNNING:
                return self.record("asked", entry.name, what="pause")
            return self.record("paused", entry.name, device_seconds=entry.device_seconds)

    def resume(self, name: str) -> Entry:
        """Queues a paused sweep again, or one that ended before it was complete."""
        with self.lock:
            entry = self._in(name, PAUSED, ENDED)
            if entry.outcome in ("complete", "not_needed", "refused"):
                raise ConflictError(name, "must be unfinished", entry.outcome, "send a sweep of its own")
            return self.record("queued", entry.name, cut_off=0)

    def known(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            ConflictError: There is none: another request has just deleted it.
        """
        entry = self.entries.get(fold(name))
        if entry is None:
            raise ConflictError(name, "must be in the queue", "a deleted sweep", "see GET /queue")
        return entry

    def _in(self, name: str, *states: str) -> Entry:
        entry = self.known(name)
        if entry.state not in states:
            got = " ".join(filter(None, (entry.state, entry.outcome)))
            raise ConflictError(name, f"must be {' or '.join(states)}", got, "see GET /queue")
        return entry
