"""Runs the queue's sweeps on this machine, one after another, each as a process of its own that outlives the service.

An attempt at a sweep is in the log before its process begins. The service locks the attempt's file, and the process
inherits the lock: a service that starts later knows by it whether the process lives. What an attempt came to is read
from the sweep's manifest.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from analysis.cli import WRONG_INPUT
from analysis.index.row import make_row
from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.service.queue.entries import ATTEMPTS, RUNNING, Entry
from sweeps.service.queue.queue import Queue
from sweeps.service.queue.shares import Parts, runnable
from trainables.errors import UserError, UserErrors
from trainables.redaction import redact
from trainables.storage.layout import MANIFEST_FILE, SWEEP_FILE, TRIALS_FILE

LOOK_EVERY_SECONDS = 0.5
TAIL_BYTES = 20_000  # of a sweep's output, in which its error lines stand

Command = Callable[[list[str]], list[str]]  # arguments of `sweeps.run` → the whole command line


def sweeps_run(arguments: list[str], address: str | None = None) -> list[str]:
    """The command line of `python -m sweeps.run`, on the Ray cluster at an address if one is given."""
    return [sys.executable, "-m", "sweeps.run", *arguments, *(["--address", address] if address else [])]


class Runner:
    """Starts, watches and stops the queue's sweeps.

    Args:
        queue: The queue.
        storage: Folder of the sweeps.
        command: Makes the command line of a sweep.
        parts: Reads what is due to each user.
    """

    def __init__(
        self,
        queue: Queue,
        storage: Path,
        command: Command = sweeps_run,
        parts: Callable[[], Parts] = dict,
    ) -> None:
        self.queue, self.storage = queue, storage
        self._command, self._parts = command, parts
        self._process: subprocess.Popen[bytes] | None = None  # of the running sweep, if this service started it
        self._ended = threading.Event()
        (queue.folder / "attempts").mkdir(exist_ok=True)

    def run(self, look_every_seconds: float = LOOK_EVERY_SECONDS) -> None:
        """Works through the queue until `end` is called. Running sweeps go on."""
        said = ""
        while not self._ended.wait(look_every_seconds):
            try:
                self.step()
                said = ""
            except (OSError, UserError) as error:  # a full disk, a users.yaml that is being edited: tried again
                line = f"error: the queue waits: {error}"
                if line != said:
                    print(redact(line), file=sys.stderr)
                said = line

    def end(self) -> None:
        self._ended.set()

    def step(self) -> None:
        """Notes the end of the running sweep, tells it to stop where that was asked, or starts the next one."""
        with self.queue.lock:
            running = [entry for entry in self.queue.entries.values() if entry.state == RUNNING]
            for entry in running:
                self._watch(entry)
            if not running and (waiting := runnable(self.queue.entries, self._parts(), time.time())):
                self._start(waiting[0])

    def file(self, entry: Entry, ending: str) -> Path:
        """A file of the latest attempt at a sweep: its `lock`, or its `log`, the process's output."""
        return self.queue.folder / "attempts" / f"{entry.key}-{entry.attempt}.{ending}"

    def _start(self, entry: Entry) -> None:
        folder, config = self.storage / entry.name, self.queue.config(entry)
        begun = (folder / SWEEP_FILE).exists()
        if begun and not is_of(entry, self.storage, self.queue):
            error = f"error: name: the sweep's folder must not exist yet, got {folder}; send it under another name"
            self.queue.record("ended", entry.name, outcome="refused", error=error, device_seconds=0.0)
            return
        arguments = ["--resume", str(folder)] if begun else [str(config)]
        entry = self.queue.record("starting", entry.name, attempt=entry.attempt + 1, before=self._stamp(entry))
        # A kill before this line leaves an attempt without a lock: it has not begun.
        with self.file(entry, "lock").open("w") as lock, self.file(entry, "log").open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.service.runs.attempt", str(lock.fileno()), *self._command(arguments)],
                pass_fds=[lock.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the service's terminal is not for the sweep
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def _watch(self, entry: Entry) -> None:
        if self._process is not None:
            self._process.poll()  # reaps it
        if not self._lives(entry):
            self._note_end(entry, self._process.wait() if self._process is not None else None)
            self._process = None  # only now: on a full disk the end is noted later
        elif entry.asked and not entry.signalled and (holder := self._holder(entry)):
            os.kill(holder["pid"], signal.SIGTERM)
            # A kill between these lines sends the signal twice: the sweep then ends at once, and can be resumed.
            self.queue.record("signalled", entry.name)

    def _lives(self, entry: Entry) -> bool:
        try:
            with self.file(entry, "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            # Held. A process of the sweep that outlived its driver might hold it, too.
            holder = self._holder(entry)
            return holder is None or _is_running(holder)
        return False

    def _holder(self, entry: Entry) -> dict[str, Any] | None:
        try:
            holder = json.loads(self.file(entry, "lock").read_text())
            return {"pid": int(holder["pid"]), "created": float(holder["created"])}
        except (ValueError, KeyError, TypeError):  # not signed yet
            return None

    def _note_end(self, entry: Entry, code: int | None) -> None:
        """Writes what an attempt came to; `code` is its exit code, None where an earlier service started it."""
        manifest, cost = self._manifest(entry)
        began = self._stamp(entry) != entry.before and is_of(entry, self.storage, self.queue)
        state = manifest.get("state") if began and manifest.get("ended") else ""
        errors = self._errors(entry)
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

    def _errors(self, entry: Entry) -> str:
        try:
            with self.file(entry, "log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(line for line in lines if line.startswith("error: "))


def is_of(entry: Entry, storage: Path, queue: Queue) -> bool:
    """Whether a sweep's folder is of this entry, and not of a sweep that took the name elsewhere."""
    if entry.before:
        return True
    begun, sent = storage / entry.name / SWEEP_FILE, queue.config(entry)
    try:
        return begun.read_bytes() == sent.read_bytes() or _as_begun(begun) == _as_begun(sent)
    except (FileNotFoundError, UserError, UserErrors):
        return False


def _as_begun(path: Path) -> SweepConfig:
    # A sweep writes its paths down as absolute ones.
    return with_absolute_paths(load_config(path))


def _is_running(holder: Mapping[str, Any]) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        return abs(process.create_time() - holder["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
