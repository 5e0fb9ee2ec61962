"""Sweeps that users send: checked, planned in a process of its own, then queued once, however often they are sent."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analysis.records.json_files import read_json
from sweeps.config.sweep_config import SweepConfig, dump_config
from sweeps.service.access.checks import checked_config
from sweeps.service.access.users import Users
from sweeps.service.queue.entries import Entry, fold
from sweeps.service.queue.queue import ConflictError, Queue
from sweeps.service.runs.processes import Command, sweeps_run
from trainables.errors import UserError, UserErrors, WordedError
from trainables.redaction import HIDDEN, redact
from trainables.storage.atomic import write_whole
from trainables.storage.layout import PLAN_FILE

PLAN_SECONDS = 600.0  # for a pre-flight; a data set of a million lines takes minutes
PLANS_AT_ONCE, SENT_AT_ONCE = 2, 8  # the others of the eight wait; more are refused
TURNS = 64  # locks for all ids, which share them by hash
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

Reply = dict[str, Any]


class Submissions:
    """Checks, plans and queues sweeps.

    Args:
        queue: The queue.
        storage: Folder of the sweeps.
        users: Who may send what.
        command: Makes the command line of a plan.
    """

    def __init__(self, queue: Queue, storage: Path, users: Users, command: Command = sweeps_run) -> None:
        self.queue, self.storage, self.users = queue, storage, users
        self._command = command
        self._plans = threading.BoundedSemaphore(PLANS_AT_ONCE)
        self._sending = threading.BoundedSemaphore(SENT_AT_ONCE)
        # Two requests with one id, or for one name, take turns. Always one of the first, then one of the second.
        self._by_client, self._by_name = ([threading.Lock() for _ in range(TURNS)] for _ in range(2))
        for folder in ("sent", "plans"):
            (queue.folder / folder).mkdir(exist_ok=True)

    def config(self, user: str, text: str, overrides: list[str]) -> SweepConfig:
        """A posted config, which lies in this storage whatever it says.

        Raises:
            UserError, UserErrors: It is wrong, or names what it must not.
        """
        config = checked_config(text, overrides, self.users.read().allowed, self.users.user(user))
        return config.model_copy(update={"storage_path": str(self.storage)})

    def plan(self, config: SweepConfig) -> Reply:
        """The sweep's pre-flight, as `sweeps.run --plan` makes it; nothing is queued.

        Returns:
            `name`, `text` (as printed), `findings`, `forecast`, `forecast_hours` (on this machine, or None),
            and `notes`: what the service has set.

        Raises:
            UserErrors: The sweep can't start; the command line's lines.
        """
        with self._plans, self._scratch() as scratch:
            path = scratch / "config.yaml"
            path.write_text(dump_config(config.model_copy(update={"storage_path": str(scratch)})), encoding="utf-8")
            code, out, err = _run(self._command([str(path), "--plan"]), PLAN_SECONDS)
            shown = [text.replace(str(scratch), str(self.storage)) for text in (out, err)]
            if code:
                raise UserErrors(_told(shown[1], code))
            plan = json.loads((scratch / config.name / PLAN_FILE).read_text(encoding="utf-8"))
        return {
            "name": config.name,
            "text": _ANSI.sub("", shown[0]),
            "findings": plan["findings"],
            "forecast": plan["forecast"],
            "forecast_hours": forecast_hours(plan["forecast"], config.budget.device_hours),
            "notes": [f"storage_path: the sweep will lie in {self.storage / config.name}"],
        }

    def preview(self, config: SweepConfig) -> Reply:
        """The plan of a sweep that is not sent; see `plan`.

        Raises:
            UserErrors: The sweep can't start.
            BusyError: Too many are being planned.
        """
        with self._among_few():
            return self.plan(config)

    def send(self, user: str, client_id: str, text: str, overrides: list[str]) -> tuple[Reply, Entry, bool]:
        """Plans and queues a sweep, unless this user has sent one under this id.

        Args:
            user: Who sends it.
            client_id: The sender's id of the request.
            text: The config.
            overrides: `key=value` texts.

        Returns:
            The plan's reply, the entry in the queue, and whether it is new.

        Raises:
            UserError, UserErrors: The config is wrong, or the sweep can't start.
            ConflictError: There is a sweep of that name.
            BusyError: Too many are being planned.
        """
        if redact(client_id) != client_id:  # the log would hold another
            raise UserError("client_id", "must be no credential", HIDDEN, "take another")
        with self._among_few(), self._by_client[hash((user, client_id)) % TURNS]:
            if entry := self.queue.sent_as(user, client_id):
                return self._reply(entry), entry, False
            config = self.config(user, text, overrides)
            with self._by_name[hash(fold(config.name)) % TURNS]:
                self._refuse_taken(config.name)
                reply = self.plan(config)
                if not self.queue.scheduler:  # which has quotas of its own
                    _check_quota(self.users.user(user).hours_a_month, reply["forecast_hours"])
                entry = self._queue(user, client_id, config, reply)
        if "queued" in config.notify.events:
            self._tell_queued(entry)
        return reply, entry, True

    def _tell_queued(self, entry: Entry) -> None:
        # Neither the reply waits for a server, nor does its library run in the service.
        command = [
            sys.executable,
            "-m",
            "sweeps.notify",
            str(self.queue.config(entry)),
            "queued",
            "it is in the queue.",
        ]
        telling = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        threading.Thread(target=telling.wait, daemon=True).start()

    @contextmanager
    def _among_few(self) -> Iterator[None]:
        if not self._sending.acquire(blocking=False):
            raise BusyError("the service", f"plans {SENT_AT_ONCE} sweeps at once", "one more", "try again in a minute")
        try:
            yield
        finally:
            self._sending.release()

    def _refuse_taken(self, name: str) -> None:
        entry, remedy = self.queue.get(name), "take another name"
        # A refused sweep has left nothing; its name is free.
        if entry and entry.outcome != "refused":
            raise ConflictError("name", "must be new", f"{name}, which {entry.user} has sent", remedy)
        if any(fold(found) == fold(name) for found in os.listdir(self.storage)):
            raise ConflictError("name", "the sweep's folder must not exist yet", name, remedy)

    def _queue(self, user: str, client_id: str, config: SweepConfig, reply: Reply) -> Entry:
        with self.queue.lock:
            number = max((entry.number for entry in self.queue.entries.values()), default=0) + 1
            key = f"{fold(config.name)}-{number}"
            sent = self.queue.folder / "sent"
            # Before the event: what is in the log can be run. After a kill here they are written over.
            write_whole(sent / f"{key}.plan.json", json.dumps(reply))
            write_whole(sent / f"{key}.yaml", dump_config(config))
            fields = {"user": user, "client_id": client_id, "key": key, "priority": 0}
            fields["forecast_hours"] = reply["forecast_hours"]
            return self.queue.record("submitted", config.name, **fields)

    def _reply(self, entry: Entry) -> Reply:
        path = self.queue.folder / "sent" / f"{entry.key}.plan.json"
        return read_json(path) or {}

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self.queue.folder / "plans"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def forecast_hours(forecast: Mapping[str, Any], cap: float | None) -> float | None:
    """A sweep's device-hours by its plan.

    Args:
        forecast: The plan's; its `device_hours` are by device. This machine's counts, or else the slowest.
        cap: The config's `budget.device_hours`.

    Returns:
        Hours, the cap at most; None where neither is known.
    """
    hours: Mapping[str, float] = forecast.get("device_hours") or {}
    here = [value for device, value in hours.items() if device.startswith("this machine")]
    known = [max(here or hours.values(), default=None), cap]
    return min((one for one in known if one is not None), default=None)


def _check_quota(quota: float | None, hours: float | None) -> None:
    where = "budget.device_hours"
    if quota is not None and hours is None:
        rule = f"must be set, for the forecast is unknown and your quota is {quota:g} device-hours in 30 days"
        raise UserError(where, rule, "null", f"set it to {quota:g} or less")
    if quota is not None and hours is not None and hours > quota:
        rule = f"or the forecast must be within your quota of {quota:g} device-hours in 30 days"
        raise UserError(where, rule, f"{hours:.3g}", f"set it to {quota:g} or less, or ask the service's admin")


def _run(command: list[str], seconds: float) -> tuple[int, str, str]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that audit the data
        process.communicate()
        return 1, "", f"error: the plan: must end within {seconds:.0f} s, got no end; plan it on the command line\n"


def _told(err: str, code: int) -> list[UserError]:
    lines = [line.removeprefix("error: ") for line in err.splitlines() if line.startswith("error: ")]
    return [WordedError(line) for line in lines] or [
        UserError("the plan", "must end", f"exit code {code}", "plan it on the command line")
    ]


class BusyError(UserError):
    """Too many requests of a kind at once."""
