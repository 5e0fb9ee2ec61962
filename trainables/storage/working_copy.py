"""A sweep's folder as this node sees it: the folder itself, or a copy of what lies in an object store.

Everything reads and writes files; where a sweep lies in a store, this module brings them there and back. What counts
lies in the store. A copy is a place to work in: each role on a node (the driver, each lane, `analysis`) has its own, so
that none replaces a file that another is writing, and lanes on one node work as they do on many.
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
APART = (LEDGER_PARTS, DRIVERS, LOCK_FILE, CLOCK_KEY)
"""Objects that are no files of the sweep's folder."""

Known = dict[str, tuple[str, int, int]]


def copy_folder(url: str, role: str) -> Path:
    """Where a role's copy of the sweep at a URL lies on this node: below `$XDG_CACHE_HOME` or `~/.cache`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return cache / "llm-sweeps" / key / role / PurePosixPath(url).name


def place_of(folder: Path) -> str:
    """What a user calls a sweep's folder: the URL that it is a copy of, else the folder."""
    mark = folder / COPY_MARK
    return str(json.loads(mark.read_text(encoding="utf-8"))["url"]) if mark.is_file() else str(folder)


def parent_and_name(place: str) -> tuple[str, str]:
    """A sweep's place, a folder or a URL, as `storage_path` and `name` of its config."""
    if is_url(place):
        parent, _, name = place.rstrip("/").rpartition("/")
        return parent, name
    folder = Path(place).resolve()
    return str(folder.parent), folder.name


def small(name: str) -> bool:
    """Whether a file is no weights: everything but checkpoints and training states."""
    parts = PurePosixPath(name).parts
    return not (parts[0] == "trials" and len(parts) > 3)


def top(name: str) -> bool:
    """Whether a file lies in the sweep's folder itself."""
    return "/" not in name


class WorkingCopy:
    """A sweep's folder on this node. For a folder that is no copy every method that moves files does nothing.

    Args:
        folder: Where the files are.
        remote: What they are a copy of; None for a sweep that lies in this folder.
    """

    def __init__(self, folder: Path, remote: Remote | None = None) -> None:
        self.folder, self.remote = folder, remote
        self._lock = threading.Lock()
        self._known: Known = {}

    @classmethod
    def of(cls, place: str, role: str) -> WorkingCopy:
        """The copy of a role, or the folder itself.

        Raises:
            UserError: The place is a URL, but none of an object store.
        """
        return cls(copy_folder(place, role), Remote(place)) if is_url(place) else cls(Path(place))

    @property
    def place(self) -> str:
        """What a user calls it."""
        return self.remote.url if self.remote else str(self.folder)

    def pull(self, wanted: Callable[[str], bool] = small) -> None:
        """Makes the folder what lies in the store: fetches what is new, removes what is not there.

        The ledger's parts are joined to `ledger.jsonl` by whoever needs it; see `join_ledger`.

        Args:
            wanted: Which files; others stay as they are.

        Raises:
            StoreError: The store can't be read.
        """
        if not self.remote:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._known = self._read_mark()
            # First of all, for it names the trials whose other files must be there.
            if not self.remote.fetch(TRIALS_FILE, self.folder / TRIALS_FILE):
                (self.folder / TRIALS_FILE).unlink(missing_ok=True)
            there = {name: tag for name, tag in self.remote.listed().items() if not name.startswith(APART)}
            there = {name: tag for name, tag in there.items() if wanted(name) and name != TRIALS_FILE}
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(self._bring, there, there.values()))
            for name in list(self._files()):
                if wanted(name) and name not in there and name != TRIALS_FILE:
                    (self.folder / name).unlink()
            self.write_mark()

    def push(self, *names: str) -> None:
        """Uploads files that have changed since they were last pushed or pulled; one that is not there is left out.

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
        """Uploads what lies in the folder itself, but for the ledger, which goes event by event."""
        names = (path.name for path in self.folder.iterdir() if path.is_file()) if self.remote else ()
        self.push(*filter(_is_shared, names))

    def fetch(self, *names: str) -> None:
        """Brings files here as they are in the store now; what is not there stays as it is here."""
        for name in names:
            if self.remote and (version := self.remote.fetch(name, self.folder / name)):
                self._known[name] = (version.e_tag or "", *_stamp(self.folder / name))

    def drop(self, name: str) -> None:
        """Removes a file or a folder, here and in the store."""
        path = self.folder / name
        if path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)
        if self.remote:
            self.remote.drop(name)

    def keep_only(self, name: str, kept: Collection[str]) -> None:
        """Removes the folders in a folder but these, here and in the store.

        A folder that can't be removed here stays for now; the next driver tries again.
        """
        folder = self.folder / name
        for place in folder.iterdir() if folder.is_dir() else ():
            if place.name not in kept:
                shutil.rmtree(place, ignore_errors=True)
        if self.remote:
            there = {PurePosixPath(key).relative_to(name).parts[0] for key in self.remote.listed(name)}
            for gone in sorted(there.difference(kept)):
                self.remote.drop(f"{name}/{gone}/COMPLETE")
                self.remote.drop(f"{name}/{gone}")

    def write_mark(self) -> None:
        """Says in the folder what it is a copy of."""
        if self.remote:
            text = json.dumps({"url": self.remote.url, "known": self._known})
            write_whole(self.folder / COPY_MARK, text + "\n")

    def _bring(self, name: str, tag: str) -> None:
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
    """Writes the ledger's parts, in their order, as the one file that readers know; returns how many lines it has."""
    parts = [data or b"" for data in remote.get_all(remote.listed(LEDGER_PARTS.rstrip("/")))]
    if parts or path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, b"".join(parts).decode("utf-8", "replace"))
    return len(parts)


def driver_epochs(remote: Remote) -> list[int]:
    """The epochs of all drivers of a sweep that have begun, ascending."""
    return sorted(int(PurePosixPath(key).stem) for key in remote.listed(DRIVERS.rstrip("/")))


def _is_shared(name: str) -> bool:
    """Whether a file belongs in the store: no lock, nothing hidden or of W&B, not the ledger, which goes by events."""
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    of_wandb = name.startswith("wandb/")  # its runs stay where they were written
    return not hidden and not of_wandb and not name.endswith(".lock") and name != LEDGER_FILE


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
