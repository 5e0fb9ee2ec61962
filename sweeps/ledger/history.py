"""What a ledger says of earlier starts: trials that ended, jobs that did not, checkpoints that were dropped."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.ledger.ledger import Event
from trainables.config.trial_spec import TrialSpec
from trainables.storage.atomic import write_whole
from trainables.storage.layout import TRIALS_FILE

Record = dict[str, Any]


def ended_trials(events: Sequence[Event]) -> list[Record]:
    """Lines of `trials.jsonl` in the order in which the trials ended; one a trial, its last."""
    ended = {event["trial"]["trial_id"]: event["trial"] for event in events if event["event"] == "trial_ended"}
    dropped = dropped_of(events)
    return [marked(record, dropped.get(name, ())) for name, record in ended.items()]


def last(events: Iterable[Event], kind: str) -> Event | None:
    """The last event of a kind."""
    found = None
    for event in events:
        found = event if event["event"] == kind else found
    return found


def write_trials(folder: Path, ended: Iterable[Record]) -> None:
    """Replaces `trials.jsonl`; where no trial has ended there is none."""
    path = folder / TRIALS_FILE
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in ended)
    if text or path.exists():
        write_whole(path, text)


@dataclass(frozen=True)
class Past:
    """Trials of earlier starts of the same sweep.

    Attributes:
        ended: Their records, as in `trials.jsonl`.
        unfinished: Trials of the search that were proposed and never ended; they run first, under their old ids.
        submitted: Trials that the search proposed so far, over all starts: the highest number of their ids, so that no
            id is given twice even where the ledger has lost a line.
        contenders: Settings that replicates are trained of, the best of the search first; empty before that is decided.
        device_hours: What all starts together have cost, as far as the ledger knows.
    """

    ended: list[Record] = field(default_factory=list)
    unfinished: list[TrialSpec] = field(default_factory=list)
    submitted: int = 0
    contenders: tuple[str, ...] = ()
    device_hours: float = 0.0

    @property
    def searched(self) -> list[Record]:
        """Those of the ended trials that the search proposed."""
        return [record for record in self.ended if record["kind"] == "search"]


def past_of(events: list[Event]) -> Past:
    """What a ledger's events tell of trials."""
    proposed = (TrialSpec.model_validate(event["spec"]) for event in events if event["event"] == "trial_submitted")
    specs = {spec.trial_id: spec for spec in proposed}
    ended = {e["trial"]["trial_id"]: e["trial"] for e in events if e["event"] == "trial_ended"}
    dropped = dropped_of(events)
    begun = [spec for trial_id, spec in specs.items() if trial_id not in ended]
    kinds = {**{s.trial_id: s.kind for s in specs.values()}, **{r["trial_id"]: r["kind"] for r in ended.values()}}
    searched = [trial_id for trial_id, kind in kinds.items() if kind == "search"]
    cost = max((event.get("device_hours", 0.0) for event in events), default=0.0)
    return Past(
        ended=[marked(record, dropped.get(trial_id, ())) for trial_id, record in ended.items()],
        unfinished=[spec for spec in begun if spec.kind == "search"],
        submitted=max((int(trial_id.removeprefix("t")) for trial_id in searched), default=0),
        contenders=next((tuple(e["contenders"]) for e in events if e["event"] == "confirm_started"), ()),
        device_hours=cost,
    )


DROPPED = "checkpoints_dropped"
"""The ledger's event: `checkpoints`, each with `trial_id` and `step`."""


def dropped_of(events: Iterable[Record]) -> dict[str, set[int]]:
    """By trial, the steps of checkpoints that a ledger's events say were dropped after the trial's end."""
    dropped: dict[str, set[int]] = {}
    for event in events:
        for point in event["checkpoints"] if event["event"] == DROPPED else ():
            dropped.setdefault(point["trial_id"], set()).add(point["step"])
    return dropped


def marked(record: Record, dropped: Collection[int]) -> Record:
    """A trial's line, saying that its checkpoints at these steps are not kept any more."""
    if not dropped:
        return record
    points = [{**point, "kept": False} if point["step"] in dropped else point for point in record["checkpoints"]]
    return {**record, "checkpoints": points}
