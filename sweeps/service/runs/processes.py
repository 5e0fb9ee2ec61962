"""Sweeps as processes of this machine, which outlive the service.

The service locks an attempt's file, and the process inherits the lock: a service that starts later knows by it whether
the process lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sweeps.service.queue.entries import Entry
from sweeps.service.runs.attempts import Seen, error_lines, job_id

LOOK_EVERY_SECONDS = 0.5
TAIL_BYTES = 20_000  # of a sweep's output, in which its error lines stand

Command = Callable[[list[str]], list[str]]  # arguments of `sweeps.run` → the whole command line


def sweeps_run(arguments: list[str], address: str | None = None) -> list[str]:
    """The command line of `python -m sweeps.run`, on the Ray cluster at an address if one is given."""
    return [sys.executable, "-m", "sweeps.run", *arguments, *(["--address", address] if address else [])]


class Processes:
    """Attempts at sweeps, each a process; see `Attempts`.

    Args:
        folder: The service's.
        command: Makes the command line of a sweep.
    """

    where = "processes"
    keeps_order = False
    look_every_seconds = LOOK_EVERY_SECONDS

    def __init__(self, folder: Path, command: Command = sweeps_run) -> None:
        self._folder, self._command = folder / "attempts", command
        self.own: dict[str, subprocess.Popen[bytes]] = {}  # those that this service started, by attempt
        self._folder.mkdir(exist_ok=True)

    def begin(self, entry: Entry, config: Path, resume: Path | None, more: list[str]) -> None:
        """Starts the process; see `Attempts`."""
        arguments = [*(["--resume", str(resume)] if resume else [str(config)]), *more]
        # A kill before this line leaves an attempt without a lock: it has not begun.
        with self._file(entry, "lock").open("w") as lock, self._file(entry, "log").open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.own[job_id(entry)] = subprocess.Popen(
                [sys.executable, "-m", "sweeps.service.runs.attempt", str(lock.fileno()), *self._command(arguments)],
                pass_fds=[lock.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the service's terminal is not for the sweep
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]:
        """Those whose file is locked live; see `Attempts`."""
        asked = {job_id(entry): entry for entry in entries}
        self.own = {attempt: process for attempt, process in self.own.items() if attempt in asked}
        return {entry.name: self._look(entry) for entry in asked.values()}

    def _look(self, entry: Entry) -> Seen:
        process = self.own.get(job_id(entry))
        if process is not None:
            process.poll()  # reaps it
        if self._lives(entry):
            return Seen(lives=True)
        return Seen(lives=False, code=process.wait() if process is not None else None)

    def tell_to_stop(self, entry: Entry) -> bool:
        """Sends SIGTERM; see `Attempts`."""
        if holder := self._holder(entry):
            os.kill(holder["pid"], signal.SIGTERM)
        return holder is not None

    def errors(self, entry: Entry) -> str:
        """Those at the end of the process's output; see `Attempts`."""
        return error_lines(tail(self._file(entry, "log")))

    def _file(self, entry: Entry, ending: str) -> Path:
        """A file of the latest attempt at a sweep: its `lock`, or its `log`, the process's output."""
        return self._folder / f"{job_id(entry)}.{ending}"

    def _lives(self, entry: Entry) -> bool:
        try:
            with self._file(entry, "lock").open() as lock:
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
            holder = json.loads(self._file(entry, "lock").read_text())
            return {"pid": int(holder["pid"]), "created": float(holder["created"])}
        except (ValueError, KeyError, TypeError):  # not signed yet
            return None


def tail(path: Path) -> str:
    """The end of an output; "" where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _is_running(holder: Mapping[str, Any]) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        return abs(process.create_time() - holder["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
