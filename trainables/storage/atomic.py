"""Files that are replaced whole or appended to, and what makes sure that they are on disk.

On a full disk a sweep's writes wait for room; see `trainables.reliability.disk_full`.
"""

from __future__ import annotations

import os
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
