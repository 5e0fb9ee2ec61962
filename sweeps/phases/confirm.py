"""Confirmation after the search: trains replicates of the tied best settings, round by round; see `sweeps.confirm`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict

from analysis.rank.leaderboard import leaderboard
from sweeps.config.space import Range
from sweeps.confirm.contenders import LEAST_DECADES, choose_contenders
from sweeps.confirm.replicates import Replicate
from sweeps.confirm.rounds import Rules, State, plan_round, verdict
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.ledger.history import times_of
from sweeps.ledger.trial_record import Areas, CheckpointRecord, TrialRecord
from sweeps.search.study import tell_replicates
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import Measure


def confirm_winner(sweep: Sweep, supervisor: Supervisor, baseline: Areas) -> None:
    """Trains replicates until the best setting is known, is known to be tied, or `confirm.budget` is spent.

    Raises:
        LanesFailedError: Lanes end again and again.
    """
    if sweep.config.replicates == 0:
        return
    # Chosen once, by the search's leaderboard. A resumed sweep keeps them: later scores must not change the candidates.
    contenders = sweep.past.contenders or choose(sweep, supervisor)
    if len(contenders) < 2:
        return
    trained = False
    while specs := _specs(sweep, supervisor, contenders):
        supervisor.train(specs, baseline)
        trained = True
        if supervisor.cut_short:
            return
    found = verdict(_state(sweep, supervisor, contenders))
    sweep.ledger.append("confirm_ended", **asdict(found))
    if trained:
        replicates = [record for record in _ended(sweep, supervisor) if record["kind"] == "replicate"]
        measure, weights = sweep.config.objective.measure, sweep.config.heldout.weights
        times = times_of(sweep.ledger.read()[0])
        tell_replicates(sweep.config, replicates, measure.objective(baseline, weights), times)


def choose(sweep: Sweep, supervisor: Supervisor) -> tuple[str, ...]:
    """Chooses contenders by the search's leaderboard, records them, and says who they are, or why there are none."""
    config, rules, board = sweep.config, sweep.config.confirm, leaderboard(sweep.config.folder)
    rows = [row for row in board["rows"] if row["rank"] and row["state"] == "complete"]
    rows.sort(key=lambda row: row["trial_id"] != board["winner_setting"])  # the named one first, the others as they are
    ranked, tied = [row["trial_id"] for row in rows], {pair["trial_id"] for pair in board["tied"]}
    searched = isinstance(config.space.peak_lr, Range)
    peak_lrs = {row["trial_id"]: row["params"]["peak_lr"] for row in rows} if searched else None
    contenders = choose_contenders(ranked, tied, rules.contenders, config.replicates, rules.seed_sd, peak_lrs)
    if not contenders:
        supervisor.say("no setting was completed: there is nothing to confirm")
        return ()
    supervisor.recorder.cleaner.protect(contenders)
    sweep.ledger.append("confirm_started", contenders=list(contenders), tied=sorted(tied), of=len(ranked))
    if len(contenders) < 2:
        supervisor.say(f"no setting is confirmed: {_why_alone(contenders[0], ranked, tied, rules.seed_sd)}")
    elif tied >= set(contenders[1:]):
        supervisor.say(f"no significant difference: {', '.join(contenders)}; they are trained again with other seeds")
    else:
        supervisor.say(
            f"the spread between seeds is not known (confirm.seed_sd): the best {len(contenders)} settings, "
            f"{', '.join(contenders)}, are trained again with other seeds"
        )
    return contenders


def _why_alone(first: str, ranked: Sequence[str], tied: Collection[str], seed_sd: float | None) -> str:
    if len(ranked) < 2:
        return f"{first} is the only one that was completed"
    if seed_sd is not None and not tied:
        return f"{first} is significantly better than all others"
    return f"all that may be the best have a peak LR within {LEAST_DECADES:g} decades of that of {first}"


def _specs(sweep: Sweep, supervisor: Supervisor, contenders: tuple[str, ...]) -> list[TrialSpec]:
    # `plan_round` returns the rest of a round that an earlier start had begun.
    origin = {record["trial_id"]: record for record in _ended(sweep, supervisor)}
    return [
        TrialSpec(
            trial_id=f"{setting}-s{seed}",
            seed=seed,
            params=origin[setting]["params"],
            drawn=origin[setting]["drawn"],
            kind="replicate",
            replicate_of=setting,
        )
        for setting, seed in plan_round(_state(sweep, supervisor, contenders))
    ]


def _state(sweep: Sweep, supervisor: Supervisor, contenders: tuple[str, ...]) -> State:
    records = {record["trial_id"]: record for record in _ended(sweep, supervisor)}
    stated = sweep.config.confirm.model_dump(exclude={"contenders", "budget"})
    rules = Rules(budget=sweep.config.replicates, **stated)
    weights, measure = sweep.config.heldout.weights, sweep.config.objective.measure
    steps = {setting: best_step(records[setting]["checkpoints"], weights, measure) for setting in contenders}
    replicates = (r for r in records.values() if r["kind"] == "replicate" and r["replicate_of"] in contenders)
    found = tuple(replicate_of(record, steps[record["replicate_of"] or ""], weights, measure) for record in replicates)
    return State(contenders, sweep.config.search_seed(sweep.config.search.seeds), found, rules)


def best_step(checkpoints: Sequence[CheckpointRecord], weights: dict[str, float], measure: Measure) -> int:
    """Returns the step of a trial's best checkpoint of those that have the metric, the earlier of equals."""
    values = measure.by_step({"checkpoints": checkpoints}, weights)
    return min((step for step in values if math.isfinite(values[step])), key=lambda step: (values[step], step))


def replicate_of(record: TrialRecord, step: int, weights: dict[str, float], measure: Measure) -> Replicate:
    """Converts a replicate's record to what `sweeps.confirm` takes.

    Args:
        record: The replicate.
        step: The step at which the search trial of its setting was best.
        weights: Of the areas in the objective.
        measure: What decides.

    Raises:
        ValueError: The replicate is complete, and was not scored at that step.
    """
    # Not the replicate's own lowest checkpoint: a setting is its hyper-parameters and where to stop, both chosen before
    # the replicate was trained. The minimum over its checkpoints would be biased, most where they scatter most.
    scored = {point["step"]: point["areas"] for point in record["checkpoints"]}
    complete = record["state"] == "complete"
    if complete and step not in scored:
        raise ValueError(f"{record['trial_id']} must have been scored at step {step}, got {sorted(scored)}")
    value = measure.objective(scored[step], weights) if complete else None
    assert record["replicate_of"]
    assert record["state"] in ("complete", "diverged", "failed")  # the pruner stops search trials only
    return Replicate(record["replicate_of"], record["seed"], value, record["state"])


def _ended(sweep: Sweep, supervisor: Supervisor) -> Iterable[TrialRecord]:
    return [*sweep.past.ended, *supervisor.recorder.records.values()]
