"""What the ledger says about trials: which ended, which did not, which of their checkpoints were dropped."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sweeps.ledger.ledger import Event
from sweeps.ledger.trial_record import Areas, TrialRecord, spec_of
from trainables.config.trial_spec import TrialSpec
from trainables.storage.atomic import write_whole
from trainables.storage.layout import BASELINE_FILE, TRIALS_FILE

DROPPED = "checkpoints_dropped"  # its `checkpoints` each have `trial_id` and `step`
PAUSED = "trial_paused"  # its `trial` is the record so far
GO_ON = "trials_go_on"  # its `trial_ids` are the paused trials that are trained to the end


class Span(NamedTuple):
    """Seconds since 1970 at which a trial was proposed and at which it ended; equal for one that has not ended."""

    begun: float
    ended: float


def ended_trials(events: Sequence[Event]) -> list[TrialRecord]:
    """The record of each trial that ended, in the order in which they first ended."""
    # Keyed by id: of a trial that failed and was trained again, or was recorded twice, the last record counts.
    ended = {event["trial"]["trial_id"]: event["trial"] for event in events if event["event"] == "trial_ended"}
    dropped = _dropped_steps(events)
    return [mark_dropped(record, dropped.get(trial_id, ())) for trial_id, record in ended.items()]


def trial_lines(events: Sequence[Event]) -> list[TrialRecord]:
    """The lines of `trials.jsonl`: as `ended_trials`, each behind those of its attempts that failed."""
    last = {record["trial_id"]: record for record in ended_trials(events)}
    failed: dict[str, list[TrialRecord]] = {trial_id: [] for trial_id in last}
    for event in events:
        if event["event"] == "trial_ended" and event["trial"].get("state") == "failed":
            failed[event["trial"]["trial_id"]].append(event["trial"])
    return [line for name, record in last.items() for line in (*_before(failed[name], record), record)]


def _before(failed: list[TrialRecord], last: TrialRecord) -> list[TrialRecord]:
    return [record for record in failed if attempt_of(record) < attempt_of(last)]


def attempt_of(record: TrialRecord) -> int:
    """Number of the attempt at a trial, from 1: a resumed sweep trains those again that failed."""
    return record.get("attempt", 1)


def last(events: Iterable[Event], kind: str) -> Event | None:
    return next((event for event in reversed([*events]) if event["event"] == kind), None)


def write_trials(folder: Path, ended: Iterable[TrialRecord]) -> None:
    """Replaces `trials.jsonl`. Before the first trial has ended there is no file."""
    path = folder / TRIALS_FILE
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in ended)
    if text or path.exists():
        write_whole(path, text)


def write_baseline(folder: Path, areas: Areas) -> None:
    """Replaces `baseline.json`."""
    write_whole(folder / BASELINE_FILE, json.dumps({"areas": areas}, indent=2) + "\n")


@dataclass(frozen=True)
class Past:
    """Trials of earlier starts of the same sweep.

    Attributes:
        ended: Records of those that ended and did not fail.
        failed: Attempts so far at those that failed, by id. They are trained again, as if they had not ended.
        unfinished: Search trials that were proposed and did not end, or failed. They run first, under their old ids.
        paused: Records of search trials that paused and have not ended, by id.
        going_on: Those of them that were chosen to go on, best first.
        submitted: The highest number of a search trial's id so far.
        contenders: Settings under confirmation, the best of the search first; empty until they are chosen.
        device_hours: Cost of all starts, as far as the ledger records it.
        times: When each trial was proposed and when it ended, or paused, by id.
    """

    ended: list[TrialRecord] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    unfinished: list[TrialSpec] = field(default_factory=list)
    paused: dict[str, TrialRecord] = field(default_factory=dict)
    going_on: tuple[str, ...] = ()
    submitted: int = 0
    contenders: tuple[str, ...] = ()
    device_hours: float = 0.0
    times: Mapping[str, Span] = field(default_factory=dict)

    @property
    def searched(self) -> list[TrialRecord]:
        return [record for record in self.ended if record["kind"] == "search"]


def past_of(events: list[Event]) -> Past:
    """Collects the trials of earlier starts from a ledger's events."""
    records = ended_trials(events)
    ended = [record for record in records if record["state"] != "failed"]
    failed = [record for record in records if record["state"] == "failed"]
    proposed = (TrialSpec.model_validate(event["spec"]) for event in events if event["event"] == "trial_submitted")
    specs = {spec.trial_id: spec for spec in (*proposed, *map(spec_of, failed)) if spec.kind == "search"}
    searched = specs.keys() | {record["trial_id"] for record in ended if record["kind"] == "search"}
    done = {record["trial_id"] for record in ended}
    paused = {event["trial"]["trial_id"]: event["trial"] for event in events if event["event"] == PAUSED}
    chosen = [trial_id for event in events if event["event"] == GO_ON for trial_id in event["trial_ids"]]
    return Past(
        ended=ended,
        failed={record["trial_id"]: attempt_of(record) for record in failed},
        unfinished=[spec for trial_id, spec in specs.items() if trial_id not in done | paused.keys()],
        paused={trial_id: record for trial_id, record in paused.items() if trial_id not in done},
        going_on=tuple(dict.fromkeys(trial_id for trial_id in chosen if trial_id not in done)),
        # The highest number, not the count: the ledger may have lost a line, and no id may be given twice.
        submitted=max((int(trial_id.removeprefix("t")) for trial_id in searched), default=0),
        contenders=next((tuple(e["contenders"]) for e in events if e["event"] == "confirm_started"), ()),
        times=times_of(events),
        device_hours=max((event.get("device_hours", 0.0) for event in events), default=0.0),
    )


def times_of(events: Iterable[Event]) -> dict[str, Span]:
    """When each trial was last proposed, and when it ended or paused, by id."""
    begun: dict[str, float] = {}
    found: dict[str, Span] = {}
    for event in events:
        now = float(event.get("unix_seconds", 0.0))
        if event["event"] == "trial_submitted":
            begun[event["spec"]["trial_id"]] = now
        elif event["event"] in ("trial_ended", PAUSED):
            trial_id = event["trial"]["trial_id"]
            found[trial_id] = Span(begun.setdefault(trial_id, now), now)
    return {**{trial_id: Span(now, now) for trial_id, now in begun.items()}, **found}


def _dropped_steps(events: Iterable[Event]) -> dict[str, set[int]]:
    dropped: dict[str, set[int]] = {}
    for event in events:
        if event["event"] == "trial_ended":  # what was dropped before was an earlier attempt's
            dropped.pop(event["trial"]["trial_id"], None)
        for point in event["checkpoints"] if event["event"] == DROPPED else ():
            dropped.setdefault(point["trial_id"], set()).add(point["step"])
    return dropped


def mark_dropped(record: TrialRecord, steps: Collection[int]) -> TrialRecord:
    """The record with its checkpoints at these steps marked as no longer kept."""
    if not steps:
        return record
    points = record["checkpoints"]
    return {**record, "checkpoints": [{**p, "kept": False} if p["step"] in steps else p for p in points]}
