"""What a sweep that was interrupted has done already, by its ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.driver.checkpoint_retention import dropped_of, marked
from sweeps.ledger.ledger import Event
from trainables.config.trial_spec import TrialSpec
from trainables.errors import UserError, UserErrors
from trainables.storage.layout import LEDGER_FILE, PLAN_FILE, SWEEP_FILE
from trainables.storage.working_copy import parent_and_name, place_of

MAY_CHANGE = ("resources", "wandb", "storage_path", "budget", "objective.when_enough")

NEEDED = (SWEEP_FILE, PLAN_FILE)

Record = dict[str, Any]


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


def resumed_config(folder: Path, config_path: str | None, overrides: list[str]) -> SweepConfig:
    """The config of an interrupted sweep, with what the user changes of it now.

    Args:
        folder: The sweep's folder, or a copy of what lies in a store.
        config_path: A config that should be the same but for what may change; None for the sweep's own.
        overrides: `key=value` texts on top of it.

    Raises:
        UserError, UserErrors: There is no sweep, or something has changed that must stay as it was.
    """
    own = folder / SWEEP_FILE
    if missing := [name for name in NEEDED if not (folder / name).is_file()]:
        known = (folder / LEDGER_FILE).is_file() and missing == [SWEEP_FILE]
        remedy = f"make it anew: python -m sweeps.rebuild {place_of(folder)}" if known else "check the path"
        got = f"{place_of(folder)} without {', '.join(missing)}"
        raise UserError("--resume", "must name the folder of a sweep", got, remedy)
    before = load_config(own)
    now = load_config(config_path or own, overrides)
    wrong = [
        UserError(key, "must stay as it was in a resumed sweep", f"{new!r} after {old!r}", "start a sweep of its own")
        for key, old, new in differences(before.model_dump(), now.model_dump())
        if not _may_change(key) and not (key == "search.trials" and new > old)
    ]
    if wrong:
        raise UserErrors(wrong)
    parent, name = parent_and_name(place_of(folder))
    return now.model_copy(update={"name": name, "storage_path": parent})


def _may_change(key: str) -> bool:
    return any(key == allowed or key.startswith(f"{allowed}.") for allowed in MAY_CHANGE)


def differences(before: Any, now: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """Leaves that differ between two trees of mappings: dotted key, old value, new value."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [(place, before, now)]
    found = []
    for key in dict.fromkeys([*before, *now]):
        found += differences(before.get(key), now.get(key), f"{place}.{key}".strip("."))
    return found
