"""Folders that are built once and are either whole or absent, whoever else builds them at the same time."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Builds a folder unless it is there.

    The work is done in a sibling that is renamed at the end. Of several processes that build the same folder one wins
    and the others throw their copy away.

    Args:
        folder: Where the result goes; parents are made.
        build: Called with an empty folder to fill.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    partial.mkdir(parents=True)
    try:
        build(partial)
        if not folder.exists():
            _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone where the rename took it
    return folder


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # else another process was first, which is as good
            raise
