"""The sweep's folder: drafted beside its place, claimed in one step, never shared with another sweep."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeps.config import SweepConfig
from sweeps.plan import PLAN_FILE
from trainables.errors import UserError


@contextmanager
def drafted(config: SweepConfig) -> Iterator[Path]:
    """A temporary folder beside the sweep's, which is gone afterwards unless `claim` has renamed it.

    Raises:
        UserError: The sweep's folder exists already, or no folder can be made beside it.
    """
    refuse_existing(config.folder)
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


def refuse_existing(folder: Path) -> None:
    """A sweep never writes into another's folder; one that holds a plan alone is free.

    Raises:
        UserError: Something lies there.
    """
    if folder.exists() and (not folder.is_dir() or any(entry.name != PLAN_FILE for entry in folder.iterdir())):
        raise UserError(
            "name", "the sweep's folder must not exist yet", folder, "continue it with --resume, or take another name"
        )


def claim(draft: Path, folder: Path) -> None:
    """Makes the draft the sweep's folder, in one step, so that of two sweeps with one name only one gets it."""
    refuse_existing(folder)
    if folder.exists():
        shutil.rmtree(folder)
    draft.rename(folder)
