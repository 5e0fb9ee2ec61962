"""All sweeps below a storage path, a folder or a URL; rows of unchanged sweeps are kept from the last reading."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from analysis.index.row import FILES, Row, damaged, make_row, state_now
from trainables.errors import UserError
from trainables.storage.atomic import write_whole
from trainables.storage.layout import LOCK_FILE, PLAN_FILE
from trainables.storage.object_store import Remote, is_url

CACHE_FILE = ".index.json"
VERSION = 2  # of a row: rows that another version has kept are made again

Stamps = dict[str, Any]  # by file, what changes when the file does; JSON values


class Storage(Protocol):
    """Where sweeps lie."""

    def sweeps(self) -> dict[str, Stamps]:
        """The stamps of each sweep's files, by the sweep's folder name."""

    def read(self, key: str) -> bytes | None:
        """A file's content; None where there is none."""

    def keep(self, text: str) -> None:
        """Writes `CACHE_FILE`, if the storage can be written."""


@dataclass(frozen=True)
class FolderStorage:
    """A folder of sweeps."""

    root: Path

    def sweeps(self) -> dict[str, Stamps]:
        found = {}
        with os.scandir(self.root) as entries:
            for entry in entries:
                # Hidden folders are drafts and caches.
                if not entry.name.startswith(".") and entry.is_dir() and (stamps := self._stamps(entry.path)):
                    found[entry.name] = stamps
        return found

    def _stamps(self, folder: str) -> Stamps:
        stamps: Stamps = {}
        for name in (*FILES, PLAN_FILE):
            try:
                status = os.stat(f"{folder}/{name}")
            except OSError:
                continue
            stamps[name] = [status.st_mtime_ns, status.st_size, stat.S_ISREG(status.st_mode)]
        return stamps

    def read(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None  # not of a pipe, which might never end

    def keep(self, text: str) -> None:
        try:
            write_whole(self.root / CACHE_FILE, text)
        except OSError:  # a read-only storage: the next command reads the sweeps again
            return


class StoreStorage:
    """Sweeps in an object store; rows are kept in it under `CACHE_FILE`."""

    def __init__(self, url: str) -> None:
        self._remote = Remote(url)

    def sweeps(self) -> dict[str, Stamps]:
        found: dict[str, Stamps] = {}
        for key, tag in self._remote.listed().items():
            name, _, file = key.partition("/")
            if file in (*FILES, PLAN_FILE) and not name.startswith("."):
                found.setdefault(name, {})[file] = tag
        return found

    def read(self, key: str) -> bytes | None:
        return self._remote.get(key)

    def keep(self, text: str) -> None:
        self._remote.put(CACHE_FILE, text.encode())


def open_storage(place: str) -> Storage:
    """The storage at a path or URL.

    Raises:
        UserError: It is no folder, or a URL of another kind.
    """
    if is_url(place):
        return StoreStorage(place)
    root = Path(place).expanduser()
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise UserError(place, "must be a folder of sweeps", got, "give the storage_path of your configs")
    return FolderStorage(root)


def read_index(place: str, known: dict[str, Any] | None = None) -> list[Row]:
    """Reads the rows of all sweeps of a storage path.

    Args:
        place: Folder or URL.
        known: Rows of an earlier call, kept in memory by the caller and changed here; None to keep them in the
            storage (in `.index.json`) from one command to the next.

    Returns:
        The rows of `analysis.index.row.make_row`, newest start first; those that have not started come last.

    Raises:
        UserError: There is no such storage.
        StoreError: The store can't be used.
    """
    storage = open_storage(place)
    kept = _kept(storage) if known is None else known
    sweeps = storage.sweeps()
    rows = {name: _row(storage, name, stamps, kept) for name, stamps in sweeps.items()}
    if rows != kept:
        if known is None:
            storage.keep(json.dumps({"version": VERSION, "rows": rows}, separators=(",", ":")))
        else:
            known.clear()
            known.update(rows)
    shown = [_now(storage, entry["row"]) for entry in rows.values()]
    return sorted(shown, key=lambda row: (row["started"] or "", row["name"]), reverse=True)


def _kept(storage: Storage) -> dict[str, Any]:
    try:
        found = json.loads(storage.read(CACHE_FILE) or b"{}")
        if found["version"] != VERSION:
            return {}
        blank = make_row("", {}).keys()
        return {
            name: entry
            for name, entry in found["rows"].items()
            if isinstance(entry, dict) and "stamps" in entry and dict(entry.get("row") or {}).keys() == blank
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError):
        return {}  # cut off, or of another version: made again


def _row(storage: Storage, name: str, stamps: Stamps, kept: Mapping[str, Any]) -> dict[str, Any]:
    if (before := kept.get(name)) and before["stamps"] == stamps:
        return dict(before)
    shown = os.fsencode(name).decode("utf-8", "replace")
    if shown != name:  # neither a terminal nor a page can show it
        return {"stamps": stamps, "row": damaged(shown, "its folder's name must be UTF-8")}
    files, problem = {}, ""
    for file in FILES:
        try:
            if file in stamps and (content := storage.read(f"{name}/{file}")) is not None:
                files[file] = content
            elif file in stamps:
                problem = f"{file}: must be a file"
        except OSError as error:
            problem = f"{file}: must be readable, got {error.strerror}"
    row = make_row(name, files)
    if problem:
        row |= {"state": "damaged", "problem": problem}
    return {"stamps": stamps, "row": row}


def _now(storage: Storage, row: Row) -> Row:
    # Not kept: a driver dies without writing a file.
    if row["state"] != "running":
        return row
    try:
        lock = storage.read(f"{row['name']}/{LOCK_FILE}")
    except OSError:
        lock = None
    return {**row, "state": state_now("running", lock)}
