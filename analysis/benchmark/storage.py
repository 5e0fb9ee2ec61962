"""Where benchmarks lie: `STORAGE/.benchmarks/NAME-HASH/`, in a folder or an object store.

    benchmark.json          the areas with their items, and when they were fixed
    scores/KEY/AREA.json    results of the model with that key, item by item, written once
    models/ID.json          a model under the name that somebody gave it, written when all its areas are scored

Each file is written whole, so a command that is killed leaves nothing half done. A model's key is a hash of all that
its scores depend on: a copy of the same files under another name has the same scores.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.storage.atomic import write_whole
from trainables.storage.object_store import Remote, is_url

FOLDER = ".benchmarks"  # hidden: no command takes it for a sweep
AREAS_FILE = "benchmark.json"

Record = dict[str, Any]


class Files:
    """The files below a storage path.

    Args:
        place: A folder, which is made when the first file is written, or a URL.

    Raises:
        UserError: It is a file, or a URL of another kind.
    """

    def __init__(self, place: str) -> None:
        self._remote = Remote(f"{place.rstrip('/')}/{FOLDER}") if is_url(place) else None
        self._root = Path(place).expanduser() / FOLDER
        if self._remote is None and Path(place).expanduser().is_file():
            raise UserError("--storage", "must be a folder or URL", f"{place}, a file", "name the storage_path")

    def read(self, key: str) -> Record | None:
        """Reads a file's JSON object; None where there is no file.

        Raises:
            UserError: It holds something else.
        """
        path = self._root / key
        content = self._remote.get(key) if self._remote else path.read_bytes() if path.is_file() else None
        if content is None:
            return None
        try:
            return dict(json.loads(content))
        except (ValueError, TypeError, RecursionError) as error:
            remedy = "remove it, and give the same --areas and --models: it is made anew"
            raise UserError(f"{FOLDER}/{key}", "must hold a JSON object", error, remedy) from None

    def create(self, key: str, record: Record) -> None:
        """Writes a file; one that is there already is kept."""
        text = json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n"
        if self._remote:
            self._remote.create(key, text.encode())
            return
        path = self._root / key
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)

    def names(self, folder: str) -> list[str]:
        """The keys of the JSON files below a folder, sorted."""
        if self._remote:
            found = (f"{key}" for key in self._remote.listed(folder))
            return sorted(key for key in found if key.endswith(".json"))
        paths = (self._root / folder).rglob("*.json")
        return sorted(path.relative_to(self._root).as_posix() for path in paths if not path.name.startswith("."))

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """While entered, no other process of a shared folder is inside under the same key.

        An object store has no such locks: there two commands may compute the same scores, and those of the first stand.
        """
        if self._remote:
            yield
            return
        path = self._root / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
            yield


@dataclass(frozen=True)
class Version:
    """A benchmark in a storage: its full name and when it was fixed (UTC, ISO 8601)."""

    full_name: str
    fixed: str


def versions(files: Files) -> list[Version]:
    """All benchmarks of a storage, the latest last."""
    keys = [key for key in files.names("") if key.endswith(f"/{AREAS_FILE}")]
    found = [Version(key.split("/")[0], str((files.read(key) or {}).get("fixed", ""))) for key in keys]
    return sorted(found, key=lambda one: (one.fixed, one.full_name))


def latest(files: Files, name: str) -> str:
    """The full name of a benchmark: of its latest version, where the name has no hash.

    Raises:
        UserError: There is none.
    """
    found = versions(files)
    own = [one.full_name for one in found if name in (one.full_name, one.full_name.rpartition("-")[0])]
    if not own:
        known = sorted({one.full_name.rpartition("-")[0] for one in found} - {""})
        remedy = f"one of {', '.join(known)}" if known else "fix its areas first: --areas FILE…"
        raise UserError("NAME", "must be a benchmark of this storage", name, remedy)
    return own[-1]
