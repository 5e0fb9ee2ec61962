"""After the search, where asked for: trains the winner's setting again, on the selecting held-out items too.

Only sealed areas can judge the result; `sweeps.phases.sealed_areas` scores it there beside the winner.
"""

from __future__ import annotations

from analysis.rank.leaderboard import leaderboard
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.trial_record import RETRAIN, Areas, TrialRecord
from trainables.config.trial_spec import TrialSpec


def retrain_winner(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> None:
    """Trains the named setting once more, to the winner's fraction of the epoch and beyond it to the end.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    winner = leaderboard(sweep.config.folder)["winner"] if sweep.config.winner.retrain else None
    if winner is None:
        return
    records = {record["trial_id"]: record for record in [*sweep.past.ended, *supervisor.recorder.records.values()]}
    # One retraining, of the first winner: its sealed areas are opened once.
    if any(record["kind"] == RETRAIN for record in records.values()):
        return
    origin = records[winner["trial_id"]]
    supervisor.say(f"{origin['trial_id']} is trained again, on the training samples and all selecting held-out items")
    supervisor.train([retrain_spec(origin)], baseline, keep_at=winner["step"] / origin["steps"])


def retrain_spec(origin: TrialRecord) -> TrialSpec:
    """The spec of the trial that trains this one's setting again, under its seed."""
    return TrialSpec(
        trial_id=f"{origin['trial_id']}-retrained",
        kind=RETRAIN,
        replicate_of=origin["trial_id"],
        seed=origin["seed"],
        params=origin["params"],
        drawn=origin["drawn"],
    )
