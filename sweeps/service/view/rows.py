"""The rows of all sweeps, of the index and of the queue, kept for a moment: many clients ask at once."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from analysis.index import read_index
from analysis.index import row as index
from analysis.index.row import make_row
from analysis.output.formats import cost_words
from sweeps.service.queue.entries import ENDED, PAUSED, QUEUED, REMOVED, Entry, fold
from sweeps.service.queue.queue import Queue

STATES = (*index.STATES, QUEUED, PAUSED, "stopped", "refused")  # of the index, and of sweeps without a folder
FRESH_SECONDS = 1.0  # for which one reading of the index serves all requests

Row = dict[str, Any]


class Rows:
    """Reads and joins the rows. Thread-safe.

    Args:
        storage: Folder of the sweeps, its real path.
        queue: The service's.
    """

    def __init__(self, storage: Path, queue: Queue) -> None:
        self.storage, self.queue = storage, queue
        self._reading, self._joining = threading.Lock(), threading.Lock()
        self._known: dict[str, Any] = {}
        self._index: list[Row] | None = None
        self._read_at = 0.0
        self._joined_of: Any = None
        self._joined: dict[str, Row] = {}

    def by_name(self) -> dict[str, Row]:
        """All rows, newest first, with costs in words.

        Those of sweeps that were sent here have `user`, `queue`, `error` and `forecast_hours`.
        """
        self._refresh()
        with self._joining:
            # The rows change with the index, or with an event of the queue; the queue's own are never late.
            of = self._read_at, self.queue.changes
            if of != self._joined_of:
                self._joined, self._joined_of = self._join(), of
            return self._joined

    def forget(self) -> None:
        """Reads the index anew for the next request."""
        self._read_at = 0.0

    def is_own(self, name: str, path: Path) -> bool:
        """Whether a path lies in a sweep's folder, with all links followed."""
        # A link in a sweep's folder may lead out of it: to another disk, or to the service's own files.
        return Path(os.path.realpath(path)).is_relative_to(self.storage / name)

    def _refresh(self) -> None:
        if self._read_at and time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        # While one request reads, the others take what was read before.
        if not self._reading.acquire(blocking=self._index is None):
            return
        try:
            rows = read_index(str(self.storage), self._known)
            self._index = [row for row in rows if self.is_own(row["name"], self.storage / row["name"])]
            self._read_at = time.monotonic()
        finally:
            self._reading.release()

    def _join(self) -> dict[str, Row]:
        with self.queue.lock:
            entries = dict(self.queue.entries)
        shown = [{**row, **_of_queue(entries.pop(fold(row["name"]), None), row)} for row in self._index or []]
        left = [entry for entry in entries.values() if entry.state != REMOVED]
        left.sort(key=lambda entry: -entry.number)
        waiting = [{**make_row(one.name, {}), "state": one.outcome, **_of_queue(one)} for one in left]
        return {row["name"]: _with_costs(row) for row in [*waiting, *shown]}


def _of_queue(entry: Entry | None, row: Row | None = None) -> Row:
    if entry is None or (row and (row["name"] != entry.name or entry.left_nothing)):
        return {"user": None, "queue": None, "error": None, "forecast_hours": None}
    state = f"running, to {entry.asked}" if entry.asked else entry.outcome or entry.state
    # Until a resumed sweep has begun again, its files tell of its last end.
    now = {} if entry.state == ENDED else {"state": entry.state}
    told = {"user": entry.user, "queue": state, "error": entry.error or None, "forecast_hours": entry.forecast_hours}
    return {**told, **now}


def _with_costs(row: Row) -> Row:
    price, forecast = row.get("price"), row["forecast_hours"]
    cost = cost_words(row["device_seconds"] / 3600, price)
    return {**row, "cost": cost, "forecast_cost": None if forecast is None else cost_words(forecast, price)}
