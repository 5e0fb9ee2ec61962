"""What the service shows of the storage's sweeps: rows, curves, files, and changes as they happen."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

from anyio import to_thread

from analysis.records.json_files import read_json
from sweeps.service.queue.entries import PAUSED, QUEUED, RUNNING
from sweeps.service.queue.queue import Queue
from sweeps.service.queue.shares import Part, Parts, in_order, is_known, over_quota, usage
from sweeps.service.runs.submission import BusyError
from sweeps.service.view.rows import Row, Rows
from sweeps.service.view.trials import Kept, Made, read_curve, read_ends, read_trained_again
from trainables.errors import UserError
from trainables.storage.layout import (
    BASELINE_TRIAL,
    CURVE_FILE,
    LEADERBOARD_FILE,
    LEDGER_FILE,
    REPORT_FILE,
    TRIALS_FILE,
    TRIALS_FOLDER,
    trial_file,
)

LOOK_EVERY_SECONDS = 1.0
QUIET_SECONDS = 15.0  # after which a stream says that it lives
STREAMS_A_USER = 20
MOST_LIVE = 100  # sweeps whose last look is kept


class UnknownError(UserError):
    """There is no such sweep, trial or file."""


class View:
    """Reads the storage and the queue for the API.

    Args:
        storage: Folder of the sweeps, its real path.
        queue: The service's.
    """

    def __init__(self, storage: Path, queue: Queue) -> None:
        self.storage, self.queue = storage, queue
        self._rows = Rows(storage, queue)
        self._live_now: dict[str, tuple[float, int, Row]] = {}
        self._streams = Counter[str]()
        self._curves, self._ends, self._again = Kept(read_curve), Kept(read_ends), Kept(read_trained_again)

    def rows(self) -> list[Row]:
        """The rows of all sweeps, newest first; see `Rows`."""
        return list(self._rows.by_name().values())

    def forget(self) -> None:
        """Reads the index anew for the next request: a sweep is gone."""
        self._rows.forget()

    def row(self, name: str) -> Row:
        """One sweep's.

        Raises:
            UnknownError: There is none of this name.
        """
        # Names are compared with those that are there, and never made into a path.
        if found := self._rows.by_name().get(name):
            return found
        raise UnknownError("sweep", "must be one of this storage", name[:100], "see GET /sweeps")

    def file(self, name: str, file: str) -> Path:
        """A file of a sweep, which lies below the storage.

        Raises:
            UnknownError: There is no such sweep or file.
        """
        path = self.storage / self.row(name)["name"] / file
        if not self._rows.is_own(name, path) or not path.is_file():
            raise UnknownError(name, f"must have {file}", "none", "wait for it, or see the sweep's state")
        return path

    def leaderboard(self, name: str) -> dict[str, Any]:
        return read_json(self.file(name, LEADERBOARD_FILE)) or {}

    def report(self, name: str) -> Path:
        return self.file(name, REPORT_FILE)

    def trials(self, name: str) -> list[str]:
        """Ids of the trials that have a folder."""
        folder = self.storage / self.row(name)["name"] / TRIALS_FOLDER
        if not folder.is_dir() or not self._rows.is_own(name, folder):
            return []
        return sorted(path.name for path in folder.iterdir() if path.is_dir())

    def trial_states(self, row: Row, trials: list[str]) -> dict[str, str]:
        """How each of a sweep's trials has ended; "" for one that has not, or that is trained again."""
        ended = self._of_file(row["name"], TRIALS_FILE, self._ends) or {}
        if row["state"] == "running" and "failed" in ended.values():
            again = self._of_file(row["name"], LEDGER_FILE, self._again) or set()
            ended = {trial: state for trial, state in ended.items() if trial not in again}
        return {trial: ended.get(trial, "") for trial in trials if trial != BASELINE_TRIAL}

    def _of_file(self, name: str, file: str, kept: Kept[Made]) -> Made | None:
        try:
            return kept.of(self.file(name, file))
        except (UnknownError, FileNotFoundError):  # there is none yet
            return None

    def trial(self, name: str, trial: str) -> str:
        """A trial's id, as it is there.

        Raises:
            UnknownError: There is no such sweep or trial.
        """
        if trial not in self.trials(name):
            raise UnknownError("trial", f"must be one of sweep {name}", trial[:100], "see GET /sweeps/ID")
        return trial

    def curve(self, name: str, trial: str) -> list[dict[str, Any]]:
        """A trial's loss curve, a record a step, as far as it has come.

        Raises:
            UnknownError: There is no such sweep or trial.
        """
        trial = self.trial(name, trial)
        return self._of_file(name, trial_file(trial, CURVE_FILE), self._curves) or []

    def waiting(self, parts: Parts) -> list[Row]:
        """The queue, the next sweep first after the running ones, with what each waits for.

        Returns:
            Rows with `id`, `user`, `state`, `priority`, `forecast_hours`, `used_hours` (the user's, each counted half
            after a week), `share` and `waits_for`: the end of the sweeps before it, room on a cluster that several
            share, or what a scheduler says. With a scheduler, no share and no quota of the service counts.
        """
        known, parts, now = parts, {} if self.queue.scheduler else parts, time.time()
        with self.queue.lock:
            running = [entry for entry in self.queue.entries.values() if entry.state == RUNNING]
            queued = in_order(self.queue.entries, parts, now)
            full = {one.name: over_quota(one, self.queue.entries, parts, now) for one in queued}
            used = usage(self.queue.entries.values(), now)
            held = [one for one in self.queue.entries.values() if one.state == PAUSED]
        ahead, shown = [entry.name for entry in running], []
        for entry in [*running, *queued, *held]:
            row = {"id": entry.name, "user": entry.user, "state": entry.state, "priority": entry.priority}
            due = parts.get(entry.user, Part())
            row |= {"forecast_hours": entry.forecast_hours, "used_hours": used.get(entry.user, 0.0), "share": due.share}
            waits = self._turn(ahead) if entry.state == QUEUED else None
            waits = self.queue.waits_for.get(entry.name) if entry.state == RUNNING else waits
            waits = "to be resumed" if entry.state == PAUSED else full.get(entry.name) or waits
            gone = entry.state == QUEUED and not is_known(entry, known)
            waits = f"{entry.user} to be in users.yaml again" if gone else waits
            shown.append({**row, "waits_for": waits})
            if entry.state == QUEUED and not full[entry.name] and not gone:
                ahead.append(entry.name)
        return shown

    def _turn(self, ahead: list[str]) -> str | None:
        if self.queue.scheduler:
            return f"its handing over to {self.queue.scheduler}"
        if self.queue.shares_cluster:
            return "room on the cluster" if ahead else None
        return f"the end of {', '.join(ahead)}" if ahead else None

    async def events(self, user: str, name: str, may_watch: Callable[[], bool] = lambda: True) -> AsyncIterator[str]:
        """Server-sent events of a sweep, until it has ended: its row, its trials and steps, whenever they change.

        Args:
            user: Who watches.
            name: The sweep.
            may_watch: Whether the user's token still counts.

        Raises:
            UnknownError: There is no such sweep.
            BusyError: This user has too many streams.
        """
        await to_thread.run_sync(self.row, name)
        if self._streams[user] >= STREAMS_A_USER:
            raise BusyError("events", f"must be {STREAMS_A_USER} streams a user", "one more", "close one")
        # Counted at once, or many that open at one moment would all pass; entered at once, so that its end is counted.
        self._streams[user] += 1
        stream = self._events(user, name, may_watch)
        await anext(stream)
        return stream

    async def _events(self, user: str, name: str, may_watch: Callable[[], bool]) -> AsyncGenerator[str, None]:
        last, said = "", time.monotonic()
        try:
            yield ""
            while await to_thread.run_sync(may_watch):
                row = await to_thread.run_sync(self._live, name)
                text = json.dumps(row)
                if text != last:
                    yield f"data: {text}\n\n"  # JSON has no line break
                    last, said = text, time.monotonic()
                elif time.monotonic() - said > QUIET_SECONDS:
                    yield ": alive\n\n"
                    said = time.monotonic()
                if row["state"] not in ("queued", "running", "paused", "planned"):
                    return
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        except (UserError, OSError):  # it was deleted meanwhile, perhaps while it was read; or users.yaml is edited
            return
        finally:
            self._streams[user] -= 1

    def _live(self, name: str) -> Row:
        # One look serves all who watch a sweep, until the queue changes: a sweep that was resumed a moment after its
        # end would be told as ended, and its page would look no more.
        changes = self.queue.changes
        made, of, row = self._live_now.get(name, (0.0, 0, {}))
        if not row or of != changes or time.monotonic() - made > LOOK_EVERY_SECONDS / 2:
            row = self._look(name)
            self._live_now = {**dict(list(self._live_now.items())[-MOST_LIVE:]), name: (time.monotonic(), changes, row)}
        return row

    def _look(self, name: str) -> Row:
        row, trials, sizes = self.row(name), self.trials(name), {}
        folder = self.storage / row["name"] / TRIALS_FOLDER
        for trial in trials:
            curve = folder / trial / CURVE_FILE
            sizes[trial] = curve.stat().st_size if curve.is_file() else 0
        return {**row, "curve_bytes": sizes, "trial_states": self.trial_states(row, trials)}
