"""Sealed folders (checkpoints, training states): whole, with checksums and a marker, on disk and in an object store.

`checksums.json` maps each file to its SHA-256, `COMPLETE` holds the SHA-256 of `checksums.json`. A folder without
`COMPLETE` does not exist for a reader.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from trainables.reliability import fault_injection, watchdog
from trainables.storage.atomic import build_once, sync
from trainables.storage.checksums import sha256_of

# Where it is called, the caller has one: a machine that trains without a store needs no client of stores.
if TYPE_CHECKING:
    from trainables.storage.object_store import Remote

META, CHECKSUMS, COMPLETE = "meta.json", "checksums.json", "COMPLETE"


class DamagedError(ValueError):
    """A file of a sealed folder in a store is missing or does not match its checksum."""


class CheckpointError(ValueError):
    """A sealed folder on disk is incomplete or does not match its checksums."""


def push_sealed(remote: Remote, folder: Path, key: str) -> None:
    """Upload a folder that `sealed` made to a key in the store, replacing what was there.

    Raises:
        StoreError: It could not be uploaded; no reader takes the part that was, for it has no `COMPLETE`.
    """
    # An object store has no rename: the marker goes first when objects are removed, and comes last when they are put.
    remote.drop(f"{key}/{COMPLETE}")
    remote.drop(key)
    last = (CHECKSUMS, COMPLETE)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in [*(name for name in names if name not in last), *last]:
        remote.put(f"{key}/{name}", folder / name)


def pull_sealed(remote: Remote, key: str, folder: Path) -> bool:
    """Fetch a sealed folder unless the same one is here; return whether the store has it, whole.

    Raises:
        DamagedError: A file is missing or does not match its checksum.
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
        # Write access to the bucket must not allow writes outside the folder on this machine.
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise DamagedError(f"{remote.url}/{key}: {CHECKSUMS} names {name}, which lies outside")
        if not remote.fetch(f"{key}/{name}", folder / name):
            raise DamagedError(f"{remote.url}/{key}: {name} is missing")
        if sha256_of(folder / name) != expected:
            raise DamagedError(f"{remote.url}/{key}: {name} is not what was written (its sha256 differs)")
    (folder / CHECKSUMS).write_bytes(checksums)
    (folder / COMPLETE).write_bytes(marker)


@contextmanager
def sealed(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill; after the block it is at `folder`, whole and with checksums, or not at all.

    Raises:
        OSError: The disk is full or not writable; nothing is left behind.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a worker that was killed while saving
    partial.mkdir(parents=True)
    what = "/".join(folder.parts[-3:])
    try:
        yield partial
        fault_injection.reached("folder_unsealed", what)
        _seal(partial)
        fault_injection.reached("folder_sealed", what)
        if folder.exists():  # of an earlier attempt: a rename does not replace a folder that is not empty
            shutil.rmtree(folder)
            fault_injection.reached("folder_displaced", what)
        partial.rename(folder)
        fault_injection.reached("folder_renamed", what)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SafetensorError) and (found := re.search(r"\(os error (\d+)\)", str(error))):
            number = int(found[1])  # safetensors gives the system's error number only in its message
            raise OSError(number, os.strerror(number), str(partial)) from error
        raise
    sync(folder.parent)


def write_meta(folder: Path, meta: Mapping[str, Any]) -> None:
    """Write `meta.json`; raises `TypeError` for values that JSON can't hold."""
    _write_text(folder / META, json.dumps(dict(meta), indent=2, sort_keys=True))


def verify(folder: str | Path) -> dict[str, str]:
    """Check that a sealed folder is complete and unchanged; return the SHA-256 of each file, by name.

    Files that were added after it was sealed are ignored.

    Raises:
        CheckpointError: `COMPLETE` or a file is missing, or a file's bytes are not those that were written.
    """
    folder = Path(folder)
    if not (folder / COMPLETE).is_file():
        raise CheckpointError(f"{folder}: no {COMPLETE} marker: the checkpoint was not written to its end")
    if not (folder / CHECKSUMS).is_file():
        raise CheckpointError(f"{folder}: {CHECKSUMS} is missing")
    if sha256_of(folder / CHECKSUMS).encode() != (folder / COMPLETE).read_bytes().strip():
        raise CheckpointError(f"{folder}: {CHECKSUMS} is not what {COMPLETE} vouches for")
    checksums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text())
    for name, expected in checksums.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing")
        if sha256_of(folder / name) != expected:
            raise CheckpointError(f"{folder}: {name} is not what was written (its sha256 differs)")
    return checksums


def read_meta(folder: str | Path) -> dict[str, Any]:
    """Read the `meta` that a folder was sealed with."""
    return json.loads((Path(folder) / META).read_text())


def _seal(folder: Path) -> None:
    # Files, checksums, marker: each on disk before the next, so that after a power cut the marker vouches for the rest.
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync(path)
        watchdog.beat()  # a sync of a large file may take minutes on a network disk
    checksums = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    _write_text(folder / CHECKSUMS, json.dumps(checksums, indent=2))
    sync(folder)
    _write_text(folder / COMPLETE, sha256_of(folder / CHECKSUMS) + "\n")
    sync(folder)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sync(path)
