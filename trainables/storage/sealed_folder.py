"""Sealed folders (checkpoints, training states) in an object store: uploaded in place, their marker last.

There is no renaming in an object store. A folder without `COMPLETE` does not exist for a reader; one that has it is
checked against its checksums while it is fetched.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path, PurePosixPath

from trainables.storage.folders import build_once
from trainables.storage.object_store import Remote

CHECKSUMS, COMPLETE = "checksums.json", "COMPLETE"


class DamagedError(ValueError):
    """A folder in a store whose files are not those that its checksums vouch for."""


def push_sealed(remote: Remote, folder: Path, key: str) -> None:
    """Uploads a sealed folder: its files, then `checksums.json`, then `COMPLETE`; what was there is removed before.

    Args:
        remote: The sweep's folder.
        folder: A folder that `trainables.checkpoints.checkpoint.sealed` made.
        key: Its place in the store.

    Raises:
        StoreError: It could not be uploaded; without `COMPLETE` nobody reads what there is of it.
    """
    remote.drop(f"{key}/{COMPLETE}")
    remote.drop(key)
    last = (CHECKSUMS, COMPLETE)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in [*(name for name in names if name not in last), *last]:
        remote.put(f"{key}/{name}", folder / name)


def pull_sealed(remote: Remote, key: str, folder: Path) -> bool:
    """Fetches a sealed folder, unless the same one is here.

    Returns:
        Whether there is such a folder, whole.

    Raises:
        DamagedError: A file is missing or is not what was written.
    """
    marker = remote.get(f"{key}/{COMPLETE}")
    if marker is None:
        return False
    here = folder / COMPLETE
    if folder.exists() and not (here.is_file() and here.read_bytes() == marker):
        shutil.rmtree(folder)
    build_once(folder, lambda partial: _fetch(remote, key, partial, marker))
    return True


def _fetch(remote: Remote, key: str, folder: Path, marker: bytes) -> None:
    checksums = remote.get(f"{key}/{CHECKSUMS}") or b""
    if hashlib.sha256(checksums).hexdigest().encode() != marker.strip():
        raise DamagedError(f"{remote.url}/{key}: {CHECKSUMS} is not what {COMPLETE} vouches for")
    for name, expected in json.loads(checksums).items():
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise DamagedError(f"{remote.url}/{key}: {CHECKSUMS} names {name}, which lies outside")
        if not remote.fetch(f"{key}/{name}", folder / name):
            raise DamagedError(f"{remote.url}/{key}: {name} is missing")
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise DamagedError(f"{remote.url}/{key}: {name} is not what was written (its sha256 differs)")
    (folder / CHECKSUMS).write_bytes(checksums)
    (folder / COMPLETE).write_bytes(marker)
