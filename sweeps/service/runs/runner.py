"""Runs the queue's sweeps: begins them, notes their ends, and tells them to stop.

An attempt at a sweep is in the log before it begins, and has its name from there, by which a service that starts later
finds it. What an attempt came to is read from the sweep's manifest.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.cli import WRONG_INPUT
from analysis.index.row import make_row
from analysis.records.json_files import read_json
from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.service.queue.entries import ATTEMPTS, RUNNING, Entry
from sweeps.service.queue.queue import Queue
from sweeps.service.queue.shares import Parts, is_known, runnable
from sweeps.service.runs.attempts import Attempts, Seen, UnreachableError
from sweeps.service.runs.sharing import Broker
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact
from trainables.storage.layout import MANIFEST_FILE, SWEEP_FILE, TRIALS_FILE


class Runner:
    """Starts, watches and stops the queue's sweeps.

    Args:
        queue: The queue.
        storage: Folder of the sweeps.
        attempts: Where they run.
        parts: Reads what is due to each user.
        broker: Shares a cluster among sweeps that run at once; None where they run one after another.
        check: Raises UserErrors where a sweep's user may not run it any more.
    """

    def __init__(
        self,
        queue: Queue,
        storage: Path,
        attempts: Attempts,
        parts: Callable[[], Parts] = dict,
        broker: Broker | None = None,
        check: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.queue, self.storage = queue, storage
        self._attempts, self._parts, self._broker, self._check = attempts, parts, broker, check
        self._ended = threading.Event()
        queue.shares_cluster = broker is not None

    def run(self) -> None:
        """Works through the queue until `end` is called. Running sweeps go on."""
        said = ""
        while not self._ended.wait(self._attempts.look_every_seconds):
            try:
                self.step()
                said = ""
            except Exception as error:  # noqa: BLE001 - a full disk, an answer that is none: tried again, never silent
                kind = "" if isinstance(error, OSError | UserError) else f"{type(error).__name__}: "
                line = f"error: the queue waits: {kind}{error}"
                if line != said:
                    print(redact(line), file=sys.stderr)
                said = line

    def end(self) -> None:
        self._ended.set()

    def step(self) -> None:
        """Notes the ends of running sweeps, tells them to stop where that was asked, and starts the next ones."""
        began = self._running()
        for entry in began:
            if entry.where != self._attempts.where:
                remedy = "start it with the same --address or --scheduler until that sweep is over"
                got = f"{entry.name}, which runs by {entry.where}"
                raise UserError("the service", f"starts sweeps by {self._attempts.where}", got, remedy)
        # Without the lock: a cluster may be slow to answer, and requests must not wait for it.
        seen = self._attempts.look(began)
        for entry in began:
            self._watch(entry, seen[entry.name])
        with self.queue.lock:
            self.queue.waits_for = {name: one.waits_for for name, one in seen.items() if one.waits_for}
            starting = [started for entry in self._next() if (started := self._start(entry))]
        for entry, begun in starting:  # again without the lock
            self._begin(entry, begun)
        if self._broker:
            self._broker.share(self._running(), self._parts())

    def _next(self) -> list[Entry]:
        """The queued sweeps that may begin now."""
        parts, running = self._parts(), self._running()
        due = {} if self._attempts.keeps_order else parts
        waiting = [one for one in runnable(self.queue.entries, due, time.time()) if is_known(one, parts)]
        if self._attempts.keeps_order:
            return waiting
        has_room = self._broker.has_room(running) if self._broker else not running
        return waiting[:1] if has_room else []

    def _running(self) -> list[Entry]:
        with self.queue.lock:
            return [entry for entry in self.queue.entries.values() if entry.state == RUNNING]

    def _start(self, entry: Entry) -> tuple[Entry, bool] | None:
        """Writes that an attempt begins; the entry, and whether it is to be resumed. None where it may not begin."""
        folder = self.storage / entry.name
        begun = (folder / SWEEP_FILE).exists()
        if begun and not is_of(entry, self.storage, self.queue):
            error = f"error: name: the sweep's folder must not exist yet, got {folder}; send it under another name"
            self.queue.record("ended", entry.name, outcome="refused", error=error, device_seconds=0.0)
            return None
        about = {"attempt": entry.attempt + 1, "before": self._stamp(entry), "where": self._attempts.where}
        about["sweep_id"] = self._manifest(entry)[0]["id"] or ""
        return self.queue.record("starting", entry.name, **about), begun

    def _begin(self, entry: Entry, begun: bool) -> None:
        folder, config = self.storage / entry.name, self.queue.config(entry)
        more = self._broker.arguments(entry) if self._broker else []
        try:
            self._check(entry)
            self._attempts.begin(entry, config, folder if begun else None, more)
        except UnreachableError:
            raise  # it has not begun, which the next look finds
        except (UserError, UserErrors) as error:
            lines, cost = "\n".join(f"error: {line}" for line in str(error).splitlines()), entry.device_seconds
            self.queue.record("ended", entry.name, outcome="refused", error=lines, device_seconds=cost)

    def _watch(self, entry: Entry, seen: Seen) -> None:
        # Both may ask a cluster, so the lock comes after them.
        errors = "" if seen.lives else self._attempts.errors(entry)
        told = seen.lives and entry.asked and not entry.signalled and self._attempts.tell_to_stop(entry)
        with self.queue.lock:
            if told:
                # A kill before this line sends the signal twice: the sweep then ends at once, and can be resumed.
                self.queue.record("signalled", entry.name)
            elif not seen.lives:
                # Known anew: a request may have asked it to end meanwhile.
                self._note_end(self.queue.known(entry.name), seen.code, errors)

    def _note_end(self, entry: Entry, code: int | None, errors: str) -> None:
        """Writes what an attempt came to; `code` is None where it ended with its machine, or never began."""
        manifest, cost = self._manifest(entry)
        began = self._stamp(entry) != entry.before and is_of(entry, self.storage, self.queue)
        state = manifest.get("state") if began and manifest.get("ended") else ""
        if state == "interrupted" or (entry.asked and not state):
            if entry.asked == "pause":
                self.queue.record("paused", entry.name, device_seconds=cost)
                return
            state = "stopped" if entry.asked else "interrupted"
        elif not state and code == WRONG_INPUT:
            state = "refused"
        elif not state and code is None and entry.cut_off + began < ATTEMPTS:
            # It ended together with the service: with the machine, or before it began.
            self.queue.record("queued", entry.name, cut_off=entry.cut_off + began)
            return
        outcome = state or ("killed" if began or code is None else "failed")
        self.queue.record("ended", entry.name, outcome=outcome, error=errors, device_seconds=cost)

    def _stamp(self, entry: Entry) -> int:
        try:
            return (self.storage / entry.name / MANIFEST_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _manifest(self, entry: Entry) -> tuple[dict[str, Any], float]:
        folder = self.storage / entry.name
        files = {name: (folder / name).read_bytes() for name in (SWEEP_FILE, MANIFEST_FILE, TRIALS_FILE)
                 if (folder / name).is_file()}  # fmt: skip
        row = make_row(entry.name, files)
        return row, row["device_seconds"]


def is_of(entry: Entry, storage: Path, queue: Queue) -> bool:
    """Whether a sweep's folder is of this entry, and not of a sweep that took the name elsewhere."""
    if entry.before and not entry.sweep_id:  # of an earlier version's log
        return True
    if entry.sweep_id and (found := _id_of(storage / entry.name / MANIFEST_FILE)):
        return found == entry.sweep_id  # a resume may have changed the config, and never the id
    begun, sent = storage / entry.name / SWEEP_FILE, queue.config(entry)
    try:
        return begun.read_bytes() == sent.read_bytes() or _as_begun(begun) == _as_begun(sent)
    except (FileNotFoundError, UserError, UserErrors):
        return False


def _id_of(manifest: Path) -> str | None:
    try:
        return str((read_json(manifest) or {})["sweep_id"])
    except (KeyError, UserError):  # none yet, or damaged
        return None


def _as_begun(path: Path) -> SweepConfig:
    # A sweep writes its paths down as absolute ones.
    return with_absolute_paths(load_config(path))
