"""The sweep's folder: drafted next to its place, claimed in one step, never shared with another sweep."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.config.sweep_config import SweepConfig
from sweeps.folder.sweep_store import SweepStore
from trainables.errors import UserError


@contextmanager
def draft_folder(config: SweepConfig) -> Iterator[Path]:
    """Makes a temporary folder next to the sweep's. On exit it is gone unless `claim_folder` has renamed it.

    Raises:
        UserError: The sweep's folder exists already, or no folder can be made next to it.
        StoreError: The sweep's object store can't be used.
    """
    _refuse_existing(SweepStore.of_driver(config.place))
    parent = config.folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{config.name}.", dir=parent))
    except OSError as error:
        got, remedy = f"{parent}: {error.strerror}", "name another"
        raise UserError("storage_path", "must be a writable folder", got, remedy) from None
    try:
        draft.chmod(0o755)  # `mkdtemp` makes a folder that only its owner can read
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def scratch_folder(config: SweepConfig) -> Iterator[Path]:
    """Makes a temporary folder for a plan that is only printed; nothing is made at the storage path.

    Raises:
        UserError: The sweep's folder exists already.
        StoreError: The sweep's object store can't be used.
    """
    _refuse_existing(SweepStore.of_driver(config.place))
    with tempfile.TemporaryDirectory(prefix=f"{config.name}.") as folder:
        yield Path(folder)


def claim_folder(draft: Path, store: SweepStore) -> None:
    """Turns the draft into the sweep's folder.

    Raises:
        UserError: Another sweep has taken the place.
        StoreError: The sweep's object store can't be used.
    """
    _refuse_existing(store)
    if store.folder.exists():  # with a plan only
        shutil.rmtree(store.folder)
    # One step: of two sweeps with one name only one gets the folder. In an object store the driver's lock decides.
    draft.rename(store.folder)
    store.publish_draft()


def _refuse_existing(store: SweepStore) -> None:
    if store.is_taken():
        remedy = "continue it with --resume, or take another name"
        raise UserError("name", "the sweep's folder must not exist yet", store.place, remedy)
