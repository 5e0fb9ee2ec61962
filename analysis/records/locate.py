"""Sweeps that a command is asked to read: a folder, or a URL, of which this machine then has a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainables.storage.layout import LEADERBOARD_FILE, LEDGER_FILE, REPORT_FILE
from trainables.storage.object_store import Remote, is_url
from trainables.storage.sealed_folder import DamagedError, pull_sealed
from trainables.storage.working_copy import READER, WorkingCopy, join_ledger, place_of, top

WRITTEN = (LEADERBOARD_FILE, REPORT_FILE)
"""What `analysis` writes into a sweep's folder."""


@contextmanager
def opened(place: str | Path, written: Sequence[str] = WRITTEN) -> Iterator[Path]:
    """The folder of a sweep; what is written into it while the block runs goes to its store, if it lies in one.

    Of a store everything comes but checkpoints and training states; `bring_checkpoint` fetches one.

    Args:
        place: What the user gave.
        written: Files that may be written.

    Raises:
        UserError: The place is a URL, but none of an object store.
        StoreError: The store can't be used.
    """
    copy = WorkingCopy.of(str(place), READER)
    copy.pull()
    if copy.remote:
        join_ledger(copy.remote, copy.folder / LEDGER_FILE)
    yield copy.folder
    copy.push(*written)


def top_of(place: str) -> Path:
    """The folder of a sweep, of which only what lies in the folder itself is sure to be there."""
    copy = WorkingCopy.of(place, READER)
    copy.pull(top)
    return copy.folder


def bring_checkpoint(folder: Path, key: str) -> None:
    """Fetches a checkpoint of a sweep that lies in a store; a folder that is no copy has what it has.

    Raises:
        DamagedError: A file of it is missing or is not what was written.
    """
    if is_url(place := place_of(folder)):
        pull_sealed(Remote(place), key, folder / key)


__all__ = ["WRITTEN", "DamagedError", "bring_checkpoint", "opened", "place_of", "top_of"]
