"""Sealed areas: held-out areas scored once, for the winner and its retraining, at the end. The ledger proves that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.output.leaderboard import CheckpointName
from analysis.rank.leaderboard import leaderboard
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Event
from sweeps.ledger.trial_record import RETRAIN, TrialRecord
from trainables.lane.messages import Work
from trainables.storage.atomic import write_whole
from trainables.storage.layout import BASELINE_TRIAL, ITEMS_FILE, trial_file

OPENED, SCORED = "sealed_opened", "sealed_scored"


def open_sealed(sweep: Sweep, supervisor: Supervisor, *, again: bool = False) -> None:
    """Scores the winner, its retraining and the base model on every sealed area, unless they were scored before.

    All trials must have ended. `again` opens the areas a second time, for another winner; the ledger marks it.

    Raises:
        LanesFailedError: An area could not be scored.
    """
    areas = sweep.config.heldout.sealed
    winner = leaderboard(sweep.config.folder)["winner"] if areas else None
    if winner is None:
        return
    events, _ = sweep.ledger.read()
    before = [event["winner"] for event in events if event["event"] == OPENED]
    scored = [event["winner"] for event in events if event["event"] == SCORED]
    cut_short = winner in before and winner not in scored  # the scores were never seen: still the first opening
    # A score that is looked at twice begins to select, so a second opening needs `again`.
    if before and not again and not cut_short:
        first = before[0]
        if first != winner:
            supervisor.say(
                f"sealed areas were opened for {first['trial_id']} and are not opened again for {winner['trial_id']}; "
                "force it with --open-sealed-again, which the ledger records"
            )
        return
    if not cut_short:  # written before the scores are known, so that no crash hides an opening
        sweep.ledger.append(OPENED, winner=winner, areas=areas, again=bool(before))
    models = {BASELINE_TRIAL: None, winner["trial_id"]: _checkpoint(events, winner), **_retrained(events)}
    jobs: dict[str, Work] = {
        f"sealed:{name}:{area}": {"do": "sealed", "area": area, "trial": trial}
        for area in areas
        for name, trial in models.items()
    }
    ends = supervisor.run_jobs(jobs)
    if ends is None:
        return
    for name in models:
        file = sweep.config.folder / trial_file(name, ITEMS_FILE)
        # Lines of these areas may be there already, from a driver that was killed before it recorded the scores.
        lines = without(file, areas) + "".join(ends[f"sealed:{name}:{area}"]["lines"] for area in areas)
        write_whole(file, lines)
        sweep.store.publish_items(name)
    scores = {area: ends[f"sealed:{winner['trial_id']}:{area}"]["summary"] for area in areas}
    sweep.ledger.append(SCORED, winner=winner, areas=scores)


def without(items: Path, areas: Sequence[str]) -> str:
    """Returns the lines of a `heldout.jsonl` that belong to other areas."""
    lines = items.read_text(encoding="utf-8").splitlines(keepends=True) if items.is_file() else []
    return "".join(line for line in lines if json.loads(line)["area"] not in areas)


def _checkpoint(events: list[Event], winner: CheckpointName) -> dict[str, Any]:
    """What a lane needs to load the winner's checkpoint."""
    record = next(record for record in ended_trials(events) if record["trial_id"] == winner["trial_id"])
    path = next(point["path"] for point in record["checkpoints"] if point["step"] == winner["step"])
    return {"params": record["params"], "step": winner["step"], "path": path}


def _retrained(events: list[Event]) -> dict[str, dict[str, Any]]:
    """What a lane needs to load the retrained winner's checkpoint, by its trial; empty where there is none."""
    found = [record for record in ended_trials(events) if record["kind"] == RETRAIN and record["state"] == "complete"]
    return {
        # The first of its checkpoints is that at the winner's fraction of the epoch.
        record["trial_id"]: {"params": record["params"], **_first(record)}
        for record in found
    }


def _first(record: TrialRecord) -> dict[str, Any]:
    point = record["checkpoints"][0]
    return {"step": point["step"], "path": point["path"]}
