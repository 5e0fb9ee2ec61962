"""After the search: replicates for the settings that cannot be told apart, round by round; see `sweeps.confirm`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analysis.rank import leaderboard
from sweeps.confirm import Rules, State, plan_round, verdict
from sweeps.replicates import Replicate
from sweeps.search import tell_replicates
from sweeps.sweep import Sweep
from sweeps.watch import Baseline, Watch
from trainables.config import TrialSpec
from trainables.heldout import objective

Record = dict[str, Any]


def confirm_winner(sweep: Sweep, watch: Watch, baseline: Baseline) -> None:
    """Trains replicates until the best setting is known, is known to be tied, or `confirm.budget` is spent.

    Who contends is decided once, by the search's leaderboard, and kept in the ledger: a resumed sweep goes on with
    them.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    rules = sweep.config.confirm
    if rules.budget == 0:
        return
    contenders = sweep.past.contenders or _choose(sweep, watch)
    if len(contenders) < 2:
        return
    trained = False
    while specs := _specs(sweep, watch, contenders):
        watch.train(specs, baseline)
        trained = True
        if watch.cut_short:
            return
    found = verdict(_state(sweep, watch, contenders))
    sweep.ledger.append("confirm_ended", **asdict(found))
    if trained:
        replicates = [record for record in _ended(sweep, watch) if record["kind"] == "replicate"]
        tell_replicates(sweep.config, replicates, objective(baseline, sweep.config.heldout.weights))


def _choose(sweep: Sweep, watch: Watch) -> tuple[str, ...]:
    """The best setting of the search and those that are not told apart from it, lowest objective first."""
    board = leaderboard(sweep.config.folder)
    if board["winner"] is None:
        return ()
    tied = {pair["trial_id"] for pair in board["tied"]} | {board["winner"]["trial_id"]}
    ranked = [row["trial_id"] for row in board["rows"] if row["trial_id"] in tied]
    contenders = tuple(ranked[: sweep.config.confirm.contenders])
    sweep.ledger.append("confirm_started", contenders=list(contenders), of=len(ranked))
    if len(contenders) < 2:
        watch.say(f"{contenders[0]} is told apart from all other settings: no replicates are needed")
    else:
        watch.say(f"not told apart: {', '.join(contenders)}; they are trained again with other seeds")
    return contenders


def _specs(sweep: Sweep, watch: Watch, contenders: tuple[str, ...]) -> list[TrialSpec]:
    """The trials of the next round, or what is missing of one that had begun."""
    origin = {record["trial_id"]: record for record in _ended(sweep, watch)}
    return [
        TrialSpec(
            trial_id=f"{setting}-s{seed}",
            seed=seed,
            params=origin[setting]["params"],
            drawn=origin[setting]["drawn"],
            kind="replicate",
            replicate_of=setting,
        )
        for setting, seed in plan_round(_state(sweep, watch, contenders))
    ]


def _state(sweep: Sweep, watch: Watch, contenders: tuple[str, ...]) -> State:
    rules = Rules(**sweep.config.confirm.model_dump(exclude={"contenders"}))
    replicates = (r for r in _ended(sweep, watch) if r["kind"] == "replicate" and r["replicate_of"] in contenders)
    weights = sweep.config.heldout.weights
    return State(contenders, sweep.config.seed, tuple(_replicate(r, weights) for r in replicates), rules)


def _replicate(record: Record, weights: dict[str, float]) -> Replicate:
    complete = record["state"] == "complete"
    final = objective(record["checkpoints"][-1]["areas"], weights) if complete else None
    return Replicate(record["replicate_of"], record["seed"], final, record["state"])


def _ended(sweep: Sweep, watch: Watch) -> Iterable[Record]:
    return [*sweep.past.ended, *watch.recorder.records.values()]
