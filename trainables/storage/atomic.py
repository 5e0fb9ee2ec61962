"""Files replaced or appended to atomically, and folders built atomically, all synced to disk.

On a full disk a sweep's writes wait for room; see `trainables.reliability.disk_full`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from trainables.reliability import fault_injection
from trainables.reliability.disk_full import patiently


def write_whole(path: Path, text: str) -> None:
    """Replaces a file: written beside itself, then renamed, so that a reader sees the old or the new one."""
    patiently(path, lambda: _replace(path, text.encode()))


def append_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Appends to a file, or leaves it as it was where that fails.

    Args:
        path: The file; it is made where there is none.
        data: What is added at its end.
        durable: Wait until it is on disk.
    """
    patiently(path, lambda: _append(path, data, durable))


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of entries, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fault_injection.reached("file_replaced", "/".join(path.parts[-2:]))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _append(path: Path, data: bytes, durable: bool) -> None:
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            if durable:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise


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
