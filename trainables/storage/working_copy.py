"""A sweep's folder on this node: the folder itself, or a working copy of a sweep in an object store.

All code reads and writes files; this module transfers them. Each role on a node (the driver, each lane, `analysis`) has
a copy of its own, so that no role replaces a file that another one is writing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from trainables.errors import UserError
from trainables.storage.atomic import write_whole
from trainables.storage.layout import CLOCK_KEY, COPY_MARK, DRIVERS, LEDGER_FILE, LEDGER_PARTS, LOCK_FILE, TRIALS_FILE
from trainables.storage.object_store import AT_ONCE, Remote, is_url

DRIVER, READER = "driver", "reader"
APART = (LEDGER_PARTS, DRIVERS, LOCK_FILE, CLOCK_KEY)  # objects that are not files of the sweep's folder

Known = dict[str, tuple[str, int, int]]  # e-tag in the store, then mtime and size here, by file


def copy_folder(url: str, role: str) -> Path:
    """Folder of a role's copy of the sweep at a URL, below `$XDG_CACHE_HOME` or `~/.cache`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return cache / "llm-sweeps" / key / role / PurePosixPath(url).name


def place_of(folder: Path) -> str:
    """The URL that a folder is a copy of, else the folder."""
    mark = folder / COPY_MARK
    return str(json.loads(mark.read_text(encoding="utf-8"))["url"]) if mark.is_file() else str(folder)


def parent_and_name(place: str) -> tuple[str, str]:
    """Split a sweep's folder or URL into `storage_path` and `name` of its config."""
    if is_url(place):
        parent, _, name = place.rstrip("/").rpartition("/")
        return parent, name
    folder = Path(place).resolve()
    return str(folder.parent), folder.name


def small(name: str) -> bool:
    """Whether a file is outside checkpoints and training states."""
    parts = PurePosixPath(name).parts
    return not (parts[0] == "trials" and len(parts) > 3)


def top(name: str) -> bool:
    """Whether a file is directly in the sweep's folder."""
    return "/" not in name


class WorkingCopy:
    """A sweep's folder on this node. Without a store, methods that transfer files do nothing.

    Args:
        folder: The files.
        remote: The store that they are a copy of; None for a sweep in this folder.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self.folder, self.remote = folder, remote
        self._lock = threading.Lock()
        self._known: Known = {}

    @classmethod
    def of(cls, place: str, role: str) -> WorkingCopy:
        """The copy of a role, or the folder itself; raises `UserError` for a URL that is not of an object store."""
        return cls(copy_folder(place, role), Remote(place)) if is_url(place) else cls(Path(place))

    @property
    def place(self) -> str:
        """The sweep's URL or folder, as the user names it."""
        return self.remote.url if self.remote else str(self.folder)

    def pull(self, wanted: Callable[[str], bool] = small) -> None:
        """Make the folder equal to the store: fetch new files, remove those that the store does not have.

        The ledger is left out; see `join_ledger`.

        Args:
            wanted: Selects files; others stay as they are.

        Raises:
            StoreError: The store can't be read.
        """
        if not self.remote:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._known = self._read_mark()
            # First: a trial that it names had its other files uploaded before, so they are found below.
            if not self.remote.fetch(TRIALS_FILE, self.folder / TRIALS_FILE):
                (self.folder / TRIALS_FILE).unlink(missing_ok=True)
            there = {name: tag for name, tag in self.remote.listed().items() if not name.startswith(APART)}
            there = {name: tag for name, tag in there.items() if wanted(name) and name != TRIALS_FILE}
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._fetch_if_changed, there, there.values()))
            for name in list(self._files()):
                if wanted(name) and name not in there and name != TRIALS_FILE:
                    (self.folder / name).unlink()
            self.write_mark()

    def push(self, *names: str) -> None:
        """Upload files that have changed since they were last pushed or pulled; missing files are skipped.

        Raises:
            StoreError: The store can't be written; the files stay here.
        """
        if not self.remote:
            return
        with self._lock:
            for name in names:
                path = self.folder / name
                if path.is_file() and (stamp := _stamp(path)) != self._known.get(name, ("", 0, 0))[1:]:
                    version = self.remote.put(name, path)
                    self._known[name] = (version.e_tag or "", *stamp)

    def push_top(self) -> None:
        """Upload the files directly in the folder, without the ledger, which is uploaded event by event."""
        names = (path.name for path in self.folder.iterdir() if path.is_file()) if self.remote else ()
        self.push(*filter(_is_shared, names))

    def fetch(self, *names: str) -> None:
        """Fetch files as they are in the store now; those that it does not have stay as they are here."""
        for name in names:
            if self.remote and (version := self.remote.fetch(name, self.folder / name)):
                self._known[name] = (version.e_tag or "", *_stamp(self.folder / name))

    def drop(self, name: str) -> None:
        """Remove a file or a folder, here and in the store."""
        path = self.folder / name
        if path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
        if self.remote:
            self.remote.drop(name)

    def keep_only(self, name: str, kept: Collection[str]) -> None:
        """Remove the other folders in a folder, here and in the store."""
        folder = self.folder / name
        for place in folder.iterdir() if folder.is_dir() else ():
            if place.name not in kept:
                shutil.rmtree(place, ignore_errors=True)  # one that stays is removed by the next driver
        if self.remote:
            there = {PurePosixPath(key).relative_to(name).parts[0] for key in self.remote.listed(name)}
            for gone in sorted(there.difference(kept)):
                # The marker first: a reader must not take a folder that is half removed for a whole one.
                self.remote.drop(f"{name}/{gone}/COMPLETE")
                self.remote.drop(f"{name}/{gone}")

    def write_mark(self) -> None:
        """Record in the folder the URL that it is a copy of, and its files' versions."""
        if self.remote:
            text = json.dumps({"url": self.remote.url, "known": self._known})
            write_whole(self.folder / COPY_MARK, text + "\n")

    def _fetch_if_changed(self, name: str, tag: str) -> None:
        path, known = self.folder / name, self._known.get(name)
        if ".." in PurePosixPath(name).parts:
            raise UserError(self.place, "must hold no object whose name leads out of it", name, "remove it")
        if not (known and tag == known[0] and path.is_file() and _stamp(path) == tuple(known[1:])):
            self.fetch(name)

    def _files(self) -> Iterator[str]:
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and _is_shared(name):
                yield name

    def _read_mark(self) -> Known:
        try:
            mark = json.loads((self.folder / COPY_MARK).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {name: tuple(known) for name, known in mark["known"].items()}


def join_ledger(remote: Remote, path: Path) -> int:
    """Join the ledger's parts in the store to one file; return the number of lines."""
    parts = [data or b"" for data in remote.get_all(remote.listed(LEDGER_PARTS.rstrip("/")))]
    if parts or path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, b"".join(parts).decode("utf-8", "replace"))
    return len(parts)


def driver_epochs(remote: Remote) -> list[int]:
    """Epochs of all drivers that have begun on a sweep, ascending."""
    return sorted(int(PurePosixPath(key).stem) for key in remote.listed(DRIVERS.rstrip("/")))


def _is_shared(name: str) -> bool:
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    of_wandb = name.startswith("wandb/")  # runs stay where they were written
    return not hidden and not of_wandb and not name.endswith(".lock") and name != LEDGER_FILE


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
