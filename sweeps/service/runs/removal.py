"""Deletes sweeps for good: the entry in the queue, and the folder if it is that entry's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sweeps.folder.driver_lock import one_driver
from sweeps.service.queue.entries import REMOVED, RUNNING, Entry
from sweeps.service.queue.queue import ConflictError, Queue
from sweeps.service.runs.runner import is_of
from trainables.errors import UserError


class Removal:
    """Deletes sweeps.

    Args:
        queue: The service's.
        storage: Folder of the sweeps, its real path.
    """

    def __init__(self, queue: Queue, storage: Path) -> None:
        self.queue, self.storage = queue, storage
        self._bin = queue.folder / REMOVED
        shutil.rmtree(self._bin, ignore_errors=True)  # what a killed service had left to delete

    def remove(self, entry: Entry, user: str) -> Entry:
        """Deletes a sweep that does not run. What it has used still counts against its user.

        Raises:
            ConflictError: It runs, or has just been deleted.
        """
        with self.queue.lock:
            entry = self.queue.known(entry.name)
            if entry.state == RUNNING:
                raise ConflictError(entry.name, "must not be running", "a running sweep", "stop it first")
            self._take_away(entry)
            # After a kill before this line the entry is still there, without a folder, and can be deleted.
            removed = self.queue.record("removed", entry.name, user=user)
        shutil.rmtree(self._bin / entry.key, ignore_errors=True)  # after the lock: it may take minutes
        return removed

    def _take_away(self, entry: Entry) -> None:
        folder = self.storage / entry.name
        # A folder that another sweep has made under this name stays.
        if folder.is_symlink() or not folder.is_dir() or not is_of(entry, self.storage, self.queue):
            return
        self._bin.mkdir(exist_ok=True)
        try:
            with one_driver(folder):
                os.rename(folder, self._bin / entry.key)  # in one step: no half of a sweep is ever shown
        except UserError as error:
            raise ConflictError(entry.name, error.rule, error.got, error.remedy) from None
