"""Opens the sweeps that a command reads: a folder, or a URL, which is copied to this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from trainables.storage.layout import LEADERBOARD_FILE, LEDGER_FILE, REPORT_FILE
from trainables.storage.object_store import Remote, is_url
from trainables.storage.sealed_folder import DamagedError, pull_sealed
from trainables.storage.working_copy import READER, WorkingCopy, join_ledger, place_of, top

WRITTEN = (LEADERBOARD_FILE, REPORT_FILE)  # by `analysis` into a sweep's folder


@contextmanager
def opened(place: str | Path, written: Sequence[str] = WRITTEN) -> Iterator[Path]:
    """Context manager: the folder of a sweep, without checkpoints and training states if it is in an object store.

    Args:
        place: Folder or URL.
        written: Files that the block may write; they are uploaded at its end.

    Raises:
        UserError: The place is a URL, but not of an object store.
        StoreError: The store can't be used.
    """
    copy = WorkingCopy.of(str(place), READER)
    copy.pull()
    if copy.remote:
        join_ledger(copy.remote, copy.folder / LEDGER_FILE)
    yield copy.folder
    copy.push(*written)


def top_of(place: str) -> Path:
    """The folder of a sweep with at least its top-level files."""
    copy = WorkingCopy.of(place, READER)
    copy.pull(top)
    return copy.folder


def fetch_checkpoint(folder: Path, key: str) -> None:
    """Fetches a checkpoint of a sweep in an object store; does nothing for a local sweep.

    Raises:
        DamagedError: A file of it is missing or differs from the one written.
    """
    if is_url(place := place_of(folder)):
        pull_sealed(Remote(place), key, folder / key)


__all__ = ["WRITTEN", "DamagedError", "fetch_checkpoint", "opened", "place_of", "top_of"]
