"""Sealed areas: scored once, for the winner, at the end. The ledger proves it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.output.leaderboard import CheckpointName
from analysis.rank.leaderboard import leaderboard
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.ledger import Ledger
from trainables.lane.messages import Work
from trainables.storage.atomic import write_whole
from trainables.storage.layout import ITEMS_FILE, TRIALS_FOLDER, trial_file

OPENED, SCORED = "sealed_opened", "sealed_scored"
BASE = "baseline"


def open_sealed(sweep: Sweep, supervisor: Supervisor, *, again: bool = False) -> None:
    """Scores the winner and the base model on every sealed area, unless that was done before.

    A score that is looked at twice begins to select: a second opening, for another winner, is refused unless forced,
    and then marked in the ledger. The event is written before the scores are known.

    Args:
        sweep: The sweep; all its trials have ended.
        supervisor: Does the scoring.
        again: Opens them a second time.

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
    cut_short = winner in before and winner not in scored  # nobody has seen the scores: it is still the first time
    if before and not again and not cut_short:
        first = before[0]
        if first != winner:
            supervisor.say(
                f"sealed areas were opened for {first['trial_id']} and are not opened again for {winner['trial_id']}; "
                "force it with --open-sealed-again, which the ledger records"
            )
        return
    if not cut_short:
        sweep.ledger.append(OPENED, winner=winner, areas=areas, again=bool(before))
    jobs: dict[str, Work] = {
        f"sealed:{who}:{area}": {"do": "sealed", "area": area, "trial": trial}
        for area in areas
        for who, trial in ((BASE, None), (winner["trial_id"], _trial(sweep, winner)))
    }
    ends = supervisor.run_jobs(jobs)
    if ends is None:
        return
    for who in (BASE, winner["trial_id"]):
        file = sweep.config.folder / TRIALS_FOLDER / who / ITEMS_FILE
        write_whole(file, without(file, areas) + "".join(ends[f"sealed:{who}:{area}"]["lines"] for area in areas))
        sweep.copy.push(trial_file(who, ITEMS_FILE))
    scores = {area: ends[f"sealed:{winner['trial_id']}:{area}"]["summary"] for area in areas}
    sweep.ledger.append(SCORED, winner=winner, areas=scores)


def without(items: Path, areas: Sequence[str]) -> str:
    """The lines of a `heldout.jsonl` that are of other areas: a driver that was killed may have written these."""
    lines = items.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if json.loads(line)["area"] not in areas)


def _trial(sweep: Sweep, winner: CheckpointName) -> dict[str, Any]:
    """What a lane needs to load the winner's checkpoint."""
    events, _ = Ledger(sweep.config.folder).read()
    ended = (event["trial"] for event in events if event["event"] == "trial_ended")
    record = next(trial for trial in ended if trial["trial_id"] == winner["trial_id"])
    path = next(c["path"] for c in record["checkpoints"] if c["step"] == winner["step"])
    return {"params": record["params"], "step": winner["step"], "path": path}
