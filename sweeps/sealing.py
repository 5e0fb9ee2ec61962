"""Sealed areas: scored once, for the winner, at the end. The ledger proves it."""

from __future__ import annotations

from typing import Any

from analysis.rank import leaderboard
from sweeps.ledger import Ledger
from sweeps.sweep import Sweep
from sweeps.watch import Watch
from trainables.files import write_whole

OPENED = "sealed_opened"
BASE = "baseline"


def open_sealed(sweep: Sweep, watch: Watch, *, again: bool = False) -> None:
    """Scores the winner and the base model on every sealed area, unless that was done before.

    A score that is looked at twice begins to select: a second opening, for another winner, is refused unless forced,
    and then marked in the ledger. The event is written before the scores are known.

    Args:
        sweep: The sweep; all its trials have ended.
        watch: Does the scoring.
        again: Opens them a second time.

    Raises:
        LanesFailedError: An area could not be scored.
    """
    areas = sweep.config.heldout.sealed
    winner = leaderboard(sweep.config.folder)["winner"] if areas else None
    if winner is None:
        return
    before = [event for event in sweep.ledger.read()[0] if event["event"] == OPENED]
    if before and not again:
        first = before[0]["winner"]
        if first != winner:
            watch.say(
                f"sealed areas were opened for {first['trial_id']} and are not opened again for {winner['trial_id']}; "
                "force it with --open-sealed-again, which the ledger records"
            )
        return
    sweep.ledger.append(OPENED, winner=winner, areas=areas, again=bool(before))
    jobs = {
        f"sealed:{who}:{area}": {"do": "sealed", "area": area, "trial": trial}
        for area in areas
        for who, trial in ((BASE, None), (winner["trial_id"], _trial(sweep, winner)))
    }
    ends = watch.run_jobs(jobs)
    if ends is None:
        return
    for who in (BASE, winner["trial_id"]):
        file = sweep.config.folder / "trials" / who / "heldout.jsonl"
        new = "".join(ends[f"sealed:{who}:{area}"]["lines"] for area in areas)
        write_whole(file, file.read_text(encoding="utf-8") + new)
    scores = {area: ends[f"sealed:{winner['trial_id']}:{area}"]["summary"] for area in areas}
    sweep.ledger.append("sealed_scored", winner=winner, areas=scores)


def _trial(sweep: Sweep, winner: dict[str, Any]) -> dict[str, Any]:
    """What a lane needs to load the winner's checkpoint."""
    events, _ = Ledger(sweep.config.folder).read()
    ended = (event["trial"] for event in events if event["event"] == "trial_ended")
    record = next(trial for trial in ended if trial["trial_id"] == winner["trial_id"])
    path = next(c["path"] for c in record["checkpoints"] if c["step"] == winner["step"])
    return {"params": record["params"], "step": winner["step"], "path": path}
