"""Atomic writes: files replaced or appended to, and folders built, whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.reliability import fault_injection


def write_whole(path: Path, text: str) -> None:
    """Replace a file's content; a reader sees the old text or the new one, never a part."""
    # In the same folder, for a rename is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _named_errors(path), partial.open("wb") as file:
            file.write(text.encode())
            file.flush()
            # On disk before the rename: after a power cut the new name could else hold an empty file.
            os.fsync(file.fileno())
        fault_injection.reached("replace_due", "/".join(path.parts[-2:]))
        os.replace(partial, path)
    finally:
        with suppress(OSError):  # of a read-only file system, which would hide the cause and the file's name
            partial.unlink()


def append_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Append to a file, which is created if missing; a write that fails leaves the file as it was.

    Args:
        path: The file.
        data: The bytes to add.
        durable: Wait until they are on disk.

    Raises:
        OSError: The disk is full or not writable.
    """
    fault_injection.reached_appending("append_due", path, data)
    # Unbuffered: a buffered file would try the failed write again when it is closed.
    with _named_errors(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            left = memoryview(data)
            while left:  # a raw write may take only a part, which happens when the disk is nearly full
                left = left[file.write(left) :]
            if durable:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
    fault_injection.reached_appending("append_done", path, data)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of entries, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Build a folder unless it exists; return it.

    Args:
        folder: The result; parents are created.
        build: Fills the empty folder that it is called with.
    """
    if folder.exists():
        return folder
    # In a sibling that is renamed at the end: of several processes that build the same folder, one wins.
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    partial.mkdir(parents=True)
    try:
        build(partial)
        if not folder.exists():
            _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # nothing is left of it after the rename
    return folder


def _rename(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # otherwise another process was first, and its copy is as good
            raise


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    # A failed write(2) or fsync(2) names no file, unlike a failed open(2); the user needs its name.
    try:
        yield
    except OSError as error:
        error.filename = str(path)  # not that of the temporary file beside it
        raise
