"""Pure: what the events of the queue's log say of each sweep that was sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

ATTEMPTS = 3  # of a sweep that ends together with its machine: it may be the cause

QUEUED, RUNNING, PAUSED, ENDED = "queued", "running", "paused", "ended"
REMOVED = "removed"  # deleted by a user: kept for what it has used


@dataclass(frozen=True)
class Entry:
    """A sweep that was sent to the service."""

    number: int  # in the order of sending, from 1
    name: str  # of the sweep; its id
    user: str
    client_id: str
    key: str  # of its files in the service's folder
    priority: int = 0  # higher runs first
    forecast_hours: float | None = None  # device-hours, by its plan and its cap
    state: str = QUEUED  # or running, paused, ended, removed
    outcome: str = ""  # how it ended: the manifest's state, or refused, stopped, killed, failed
    error: str = ""  # lines on stderr, where it was refused or failed
    attempt: int = 0  # starts so far
    cut_off: int = 0  # of these, had begun and ended together with the machine
    before: int = 0  # time stamp of the manifest before the latest attempt; 0 where there was none
    sweep_id: str = ""  # in that manifest
    where: str = ""  # the latest attempt began: "processes", "ray", "slurm" or "kueue"
    asked: str = ""  # "stop" or "pause" while a running sweep is to end
    signalled: bool = False  # whether its process was told
    device_seconds: float = 0.0  # when it last ended
    ended: float = 0.0  # seconds since 1970

    @property
    def left_nothing(self) -> bool:
        """Whether it was refused before it had a folder: one of its name is another sweep's."""
        return self.outcome == "refused" and not self.before

    @property
    def place(self) -> str:
        """Key of the entry among `Entries`."""
        return fold(self.name) if self.state != REMOVED else f"{fold(self.name)}#{self.number}"  # no name holds a #


Entries = dict[str, Entry]  # by folded name, the newest of each; removed ones apart


def fold(name: str) -> str:
    """A sweep's name as names are compared: some file systems know no case."""
    return name.casefold()


def apply(entries: Entries, event: Mapping[str, Any]) -> None:
    """Changes the entries as one event of the log says; an event of an unknown sweep or kind changes nothing."""
    kind, key = event["event"], fold(str(event.get("name", "")))
    if kind == "submitted":
        number = max((entry.number for entry in entries.values()), default=0) + 1
        fields = {name: event[name] for name in ("name", "user", "client_id", "key", "priority")}
        # Logs of earlier versions have no forecast.
        entries[key] = Entry(number=number, forecast_hours=event.get("forecast_hours"), **fields)
        return
    if key not in entries:
        return
    entry = entries[key]
    if kind == "removed":
        gone = replace(entries.pop(key), state=REMOVED, outcome="", asked="")
        entries[gone.place] = gone
        return
    if kind == "priority":
        entry = replace(entry, priority=event["priority"])
    elif kind == "starting":
        # Logs of earlier versions do not say where: they knew processes alone.
        told = {"attempt": event["attempt"], "before": event["before"], "where": event.get("where", "processes")}
        told["sweep_id"] = event.get("sweep_id", "")
        entry = replace(entry, state=RUNNING, asked="", signalled=False, error="", **told)
    elif kind == "asked":
        entry = replace(entry, asked=event["what"])
    elif kind == "signalled":
        entry = replace(entry, signalled=True)
    elif kind == "queued":  # again: resumed by a user, or cut off
        entry = replace(entry, state=QUEUED, outcome="", error="", asked="", cut_off=event["cut_off"])
    elif kind == "paused":
        entry = replace(entry, state=PAUSED, asked="", device_seconds=event["device_seconds"])
        entry = replace(entry, ended=event["unix_seconds"])
    elif kind == "ended":
        told = {name: event[name] for name in ("outcome", "error", "device_seconds")}
        entry = replace(entry, state=ENDED, asked="", ended=event["unix_seconds"], **told)
    entries[key] = entry
