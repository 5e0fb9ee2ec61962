"""What Optuna is told of a trial that ended: live by `sweeps.search`, from the ledger when a sweep is resumed.

    complete            -> COMPLETE, the last checkpoint's objective
    diverged            -> COMPLETE, the base model's objective (gain 0); the true value, if any, in `user_attrs`
    pruned              -> COMPLETE, its predicted final, marked `pruned` in `user_attrs`; never a mid-epoch value
    failed, interrupted -> FAIL
    replicate           -> like any other, with the setting of the trial that it repeats: a repeated observation
    subset              -> nothing: fewer samples are another objective

Never NaN: a trial that completed without a finite objective failed. Pruned trials are COMPLETE because the Gaussian
process passes over Optuna's state PRUNED, and would propose their settings again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.trial_record import TrialRecord
from sweeps.search.search_space import Distribution, distributions
from trainables.evaluation.objective import objectives_by_step

PRUNED, DIVERGED = "pruned", "diverged_objective"


@dataclass(frozen=True)
class TrialOutcome:
    """One trial's end in Optuna's words.

    Attributes:
        state: COMPLETE or FAIL.
        value: Finite, in nats a token, for COMPLETE; None for FAIL.
        attrs: User attributes.
    """

    state: TrialState
    value: float | None
    attrs: dict[str, Any] = field(default_factory=dict)


def outcome_of(
    state: str | None,
    last: float | None,
    predicted: float | None,
    base_objective: float,
    before: Iterable[FrozenTrial],
) -> TrialOutcome:
    """What to tell of a trial.

    Args:
        state: How it ended: `complete`, `diverged`, `pruned` (`running` for one that Tune stopped), else it failed.
        last: The objective of its last checkpoint, nats a token; None or NaN where there is none.
        predicted: For a pruned trial: what its final objective would have been, by whoever stopped it.
        base_objective: The base model's objective.
        before: The study's trials so far. A pruned trial without a prediction counts as the worst of those that
            completed: it was stopped because it did worse than others, and the base model's objective would be a cliff
            where there is none. Where none has completed, it counts as the base model.
    """
    if state == "diverged":
        return TrialOutcome(TrialState.COMPLETE, base_objective, {DIVERGED: str(math.nan if last is None else last)})
    if state == "complete" and last is not None and math.isfinite(last):
        return TrialOutcome(TrialState.COMPLETE, last)
    if state in ("pruned", "running"):
        known = predicted is not None and math.isfinite(predicted)
        return TrialOutcome(TrialState.COMPLETE, predicted if known else worst(before, base_objective), {PRUNED: True})
    return TrialOutcome(TrialState.FAIL, None)


def worst(trials: Iterable[FrozenTrial], base_objective: float) -> float:
    """The highest objective that a trial ended with; the base model's where none has completed."""
    values = [
        trial.value
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and not {PRUNED, DIVERGED} & trial.user_attrs.keys()
    ]
    return max(values, default=base_objective)


def as_trials(
    records: Sequence[TrialRecord], config: SweepConfig, base_objective: float, before: Sequence[FrozenTrial] = ()
) -> list[FrozenTrial]:
    """Trials that ended, as Optuna was told of them when they did.

    Args:
        records: Lines of `trials.jsonl`, in the order in which the trials ended; replicates too. Subset trials are
            passed over.
        config: The sweep.
        base_objective: The base model's objective, nats a token.
        before: Trials that the study has already.
    """
    told = list(before)
    for record in (record for record in records if record["kind"] != "subset"):
        told.append(as_trial(record, config, base_objective, told))
    return told[len(before) :]


def as_trial(
    record: TrialRecord, config: SweepConfig, base_objective: float, before: Iterable[FrozenTrial]
) -> FrozenTrial:
    """What Optuna is told of one trial.

    Args:
        record: Its line of `trials.jsonl`.
        config: The sweep.
        base_objective: The base model's, nats a token: what stands for a trial that diverged.
        before: Trials that the study has; a stopped one without a prediction counts as the worst of them.
    """
    points = objectives_by_step(record, config.heldout.weights)
    last = next(reversed(points.values()), None)
    told = outcome_of(record["state"], last, record.get("predicted"), base_objective, before)
    attrs = {"trial_id": record["trial_id"], **told.attrs, **repeats(record)}
    return frozen(told, {**record["params"], **(record["drawn"] or {})}, distributions(config), points, attrs)


def repeats(trial: Mapping[str, Any]) -> dict[str, Any]:
    """The user attribute of a replicate."""
    return {"replicate_of": trial["replicate_of"]} if trial["kind"] == "replicate" else {}


def frozen(
    told: TrialOutcome,
    drawn: Mapping[str, float],
    space: dict[str, Distribution],
    points: Mapping[int, float],
    attrs: dict[str, Any],
) -> FrozenTrial:
    """A trial for `Study.add_trial`.

    Args:
        told: Its end.
        drawn: Its setting as drawn; what is not in the space is left out.
        space: Optuna's distributions.
        points: Objective by step along the epoch; what is not finite is left out.
        attrs: Its user attributes.
    """
    return create_trial(
        state=told.state,
        value=told.value,
        params={
            name: int(drawn[name]) if isinstance(scale, IntDistribution) else drawn[name]
            for name, scale in space.items()
        },
        distributions=dict(space),
        intermediate_values={step: value for step, value in points.items() if math.isfinite(value)},
        user_attrs=attrs,
    )
