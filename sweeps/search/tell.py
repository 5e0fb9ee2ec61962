"""What Optuna is told of a trial that ended, during the search and again from the ledger when a sweep is resumed.

    complete            -> COMPLETE, the last checkpoint's objective
    diverged            -> COMPLETE, the base model's objective (gain 0); the true value, if any, in `user_attrs`
    pruned, paused      -> COMPLETE, its predicted final, marked so in `user_attrs`; never a mid-epoch value. The rest
                           of a paused trial that went on is an observation of its own
    failed, interrupted -> FAIL
    replicate           -> like any other trial, with the setting that it repeats: a repeated observation
    subset, retrain     -> nothing: other samples are another objective

Objectives are of the metric that decides, lower is better. Held-out points and predicted finals are NLLs, by which
trials are stopped and paused; `in_deciding_metric` translates a prediction.

Never NaN: a trial that completed without a finite objective counts as failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.history import Span
from sweeps.ledger.trial_record import COMPARED, TrialRecord
from sweeps.search.search_space import Distribution, distributions
from trainables.config.sections import Params
from trainables.evaluation.objective import Measure, objectives_by_step

PRUNED, PAUSED, DIVERGED = "pruned", "paused", "diverged_objective"


@dataclass(frozen=True)
class TrialOutcome:
    """A trial's end in Optuna's terms."""

    state: TrialState  # COMPLETE or FAIL
    value: float | None  # the objective, finite, for COMPLETE; None for FAIL
    attrs: dict[str, Any] = field(default_factory=dict)  # user attributes


def outcome_of(
    state: str | None,
    last: float | None,
    predicted: float | None,
    base_objective: float,
    before: Iterable[FrozenTrial],
) -> TrialOutcome:
    """Translates a trial's end for Optuna.

    Args:
        state: `complete`, `diverged`, `pruned` (`running` for a trial that Tune stopped); any other is a failure.
        last: The objective of its last checkpoint; None or NaN where there is none.
        predicted: The final objective that a pruned trial would have had, as predicted when it was stopped.
        base_objective: The base model's objective.
        before: The study's trials so far; a pruned trial without a prediction counts as their worst.
    """
    if state == "diverged":
        return TrialOutcome(TrialState.COMPLETE, base_objective, {DIVERGED: str(math.nan if last is None else last)})
    if state == "complete" and last is not None and math.isfinite(last):
        return TrialOutcome(TrialState.COMPLETE, last)
    if state in ("pruned", "paused", "running"):
        # COMPLETE: the Gaussian process ignores Optuna's state PRUNED and would propose the setting again. The worst
        # objective, because the base model's would be a cliff where there is none.
        known = predicted is not None and math.isfinite(predicted)
        mark = PAUSED if state == "paused" else PRUNED
        return TrialOutcome(TrialState.COMPLETE, predicted if known else worst(before, base_objective), {mark: True})
    return TrialOutcome(TrialState.FAIL, None)


def worst(trials: Iterable[FrozenTrial], base_objective: float) -> float:
    """The highest measured final objective; the base model's where no trial has completed."""
    return max((value for _, value in _measured(trials)), default=base_objective)


def _measured(trials: Iterable[FrozenTrial]) -> Iterator[tuple[FrozenTrial, float]]:
    for trial in trials:
        marked = {PRUNED, PAUSED, DIVERGED} & trial.user_attrs.keys()
        if trial.state == TrialState.COMPLETE and trial.value is not None and not marked:
            yield trial, trial.value


def in_deciding_metric(predicted: float | None, before: Iterable[FrozenTrial], measure: Measure) -> float | None:
    """A predicted final NLL as a value of the metric that decides.

    Ours: where that is not the NLL, the value of the measured trial whose final NLL is nearest; None without one.
    """
    if predicted is None or not measure.higher_is_better:
        return predicted
    finals = [
        (abs(trial.intermediate_values[max(trial.intermediate_values)] - predicted), value)
        for trial, value in _measured(before)
        if trial.intermediate_values
    ]
    return min(finals)[1] if finals else None


def as_trials(
    records: Sequence[TrialRecord],
    config: SweepConfig,
    base_objective: float,
    before: Sequence[FrozenTrial] = (),
    times: Mapping[str, Span] = MappingProxyType({}),
) -> list[FrozenTrial]:
    """Converts ended trials of the search and replicates to Optuna's form; others have another objective.

    Args:
        records: Lines of `trials.jsonl`, replicates included, in the order in which the trials ended.
        config: The sweep.
        base_objective: The base model's objective.
        before: Trials that the study has already.
        times: When each was proposed and ended, by id; now for one that is not in it.
    """
    trials = list(before)  # in order: a pruned trial may count as the worst of those before it
    for record in (record for record in records if record["kind"] in COMPARED):
        trials.append(timed(as_trial(record, config, base_objective, trials), times.get(record["trial_id"])))
    return trials[len(before) :]


def timed(trial: FrozenTrial, span: Span | None) -> FrozenTrial:
    """Gives an ended trial its times, in Optuna's form: local, without a zone."""
    if span:
        trial.datetime_start, trial.datetime_complete = map(datetime.fromtimestamp, span)
    return trial


def as_trial(
    record: TrialRecord, config: SweepConfig, base_objective: float, before: Sequence[FrozenTrial]
) -> FrozenTrial:
    """Converts one ended trial to Optuna's form. Arguments as for `as_trials`."""
    points = objectives_by_step(record, config.heldout.weights)
    measure = config.objective.measure
    last = next(reversed(measure.by_step(record, config.heldout.weights).values()), None)
    predicted = in_deciding_metric(record.get("predicted"), before, measure)
    outcome = outcome_of(record["state"], last, predicted, base_objective, before)
    repeated = {"replicate_of": record["replicate_of"]} if record["kind"] == "replicate" else {}
    attrs = {"trial_id": record["trial_id"], **outcome.attrs, **repeated}
    return frozen(outcome, {**record["params"], **(record["drawn"] or {})}, distributions(config), points, attrs)


def frozen(
    outcome: TrialOutcome,
    drawn: Params,
    space: dict[str, Distribution],
    points: Mapping[int, float],
    attrs: dict[str, Any],
) -> FrozenTrial:
    """Makes a trial for `Study.add_trial`.

    Args:
        outcome: Its end.
        drawn: Its setting as drawn; hyper-parameters that are not searched are left out.
        space: Optuna's distributions.
        points: NLL by step; values that are not finite are left out.
        attrs: Its user attributes.
    """
    return create_trial(
        state=outcome.state,
        value=outcome.value,
        params={
            name: int(drawn[name]) if isinstance(scale, IntDistribution) else drawn[name]
            for name, scale in space.items()
        },
        distributions=dict(space),
        intermediate_values={step: value for step, value in points.items() if math.isfinite(value)},
        user_attrs=attrs,
    )
