"""The sweep's folder: draft_folder beside its place, claimed in one step, never shared with another sweep."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.config.sweep_config import SweepConfig
from trainables.errors import UserError
from trainables.storage.layout import CACHE_FOLDER, PLAN_FILE, SWEEP_FILE, WANDB_ID
from trainables.storage.working_copy import DRIVER, WorkingCopy

BEFORE_IT_BEGINS = (PLAN_FILE, WANDB_ID, f"{CACHE_FOLDER}/", "driver.")


@contextmanager
def draft_folder(config: SweepConfig) -> Iterator[Path]:
    """A temporary folder beside the sweep's, which is gone afterwards unless `claim` has renamed it.

    Raises:
        UserError: The sweep's folder exists already, or no folder can be made beside it.
        StoreError: It lies in an object store that can't be used.
    """
    refuse_existing(WorkingCopy.of(config.place, DRIVER))
    try:
        config.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{config.name}.", dir=config.folder.parent))
    except OSError as error:
        where = config.folder.parent
        raise UserError(
            "storage_path", "must be a writable folder", f"{where}: {error.strerror}", "name another"
        ) from None
    try:
        draft.chmod(0o755)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse_existing(copy: WorkingCopy) -> None:
    """A sweep never writes into another's folder; one that holds a plan alone is free.

    In an object store it is free, too, if it holds what a driver uploads before it has begun.

    Raises:
        UserError: Something lies there.
        StoreError: It lies in an object store that can't be used.
    """
    folder = copy.folder
    if copy.remote:
        taken = any(not name.startswith(BEFORE_IT_BEGINS) for name in copy.remote.listed())
    else:
        taken = folder.exists() and (not folder.is_dir() or any(entry.name != PLAN_FILE for entry in folder.iterdir()))
    if taken:
        remedy = "continue it with --resume, or take another name"
        raise UserError("name", "the sweep's folder must not exist yet", copy.place, remedy)


def claim_folder(draft: Path, copy: WorkingCopy) -> None:
    """Makes the draft the sweep's folder, in one step, so that of two sweeps with one name only one gets it.

    In an object store the lock sees to that. There `sweep.yaml` goes last: with it a sweep can be resumed.
    """
    refuse_existing(copy)
    if copy.folder.exists():
        shutil.rmtree(copy.folder)
    draft.rename(copy.folder)
    copy.write_mark()
    if copy.remote:
        copy.remote.create(WANDB_ID, secrets.token_hex(16).encode())
        copy.fetch(WANDB_ID)
    copy.push(*(path.relative_to(copy.folder).as_posix() for path in (copy.folder / CACHE_FOLDER).iterdir()))
    copy.push(PLAN_FILE, SWEEP_FILE)
