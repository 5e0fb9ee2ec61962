"""Decides whether a running trial is worth its remaining steps. Pure.

A trial is stopped, after its warm-up, for one of three reasons:

- its loss is not finite, has diverged or is worse than the base model's (the training loop ends it by itself);
- its loss rises steadily at the peak of its LR schedule;
- it is dominated: its running loss is behind the best trial's, on the same samples, by more than the rest of the epoch
  can win back (see `sweeps.pruning.final_prediction`). None is dominated before a trial has finished.

All trials of a sweep see the same samples once and in the same order, so the running loss is a held-out estimate and
differences between trials are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeps.pruning.dominance import LEVEL, against_best, against_running, beyond_reach_test, locate
from sweeps.pruning.trial_curve import TrialCurve

AT_ONCE = ("non_finite", "divergence", "worse_than_base")
STEADY_RISE = "steady_rise"
DOMINATED = "dominated"


@dataclass(frozen=True)
class Decision:
    """The verdict on a trial.

    Attributes:
        stop: Whether the trial is stopped.
        rule: One of `AT_ONCE`, "steady_rise" or "dominated"; None for a trial that goes on.
        evidence: The numbers compared.
    """

    stop: bool
    rule: str | None
    evidence: dict[str, Any]


def decide(
    trial: TrialCurve,
    finished: Sequence[TrialCurve],
    siblings: Sequence[TrialCurve] = (),
    *,
    worth: float = 0.0,
    level: float = LEVEL,
) -> Decision:
    """Decides whether a running trial goes on.

    Args:
        trial: The trial, at a report point.
        finished: Complete trials of the sweep, with their whole curves.
        siblings: Other running trials; one that has come as far can dominate the trial, too.
        worth: Smallest improvement on the best trial that is worth finishing for, nats a token.
        level: Probability that a trial stopped as dominated would have ended behind.

    Raises:
        ValueError: A finished trial has no finite objective or not its whole curve.
    """
    found = {finding["rule"]: finding for finding in trial.findings}
    for rule in AT_ONCE:
        if rule in found:
            return Decision(True, rule, {"step": found[rule]["step"], **found[rule]["evidence"]})
    if not np.all(np.isfinite(trial.nll)):
        sample = int(np.flatnonzero(~np.isfinite(trial.nll))[0])
        return Decision(True, AT_ONCE[0], {"sample": sample, "loss": str(trial.nll[sample])})
    progress = {"fraction": trial.seen / trial.samples, "warmup_fraction": trial.warmup_samples / trial.samples}
    if trial.seen <= trial.warmup_samples:
        return Decision(False, None, progress)
    if STEADY_RISE in found:
        seen = found[STEADY_RISE]
        # Only here: during warm-up a rise is expected.
        return Decision(True, STEADY_RISE, {**progress, "step": seen["step"], **seen["evidence"]})
    place = locate(trial, finished)
    if place is None:
        return Decision(False, None, {**progress, "finished": 0})
    evidence = {**progress, **beyond_reach_test(place, level), **against_best(place, level)}
    evidence |= against_running(place, siblings, level)
    behind = [evidence[name] + worth for name in ("behind_best", "behind_running") if name in evidence]
    stop = any(bound > 0.0 for bound in [*behind, evidence.get("out_of_reach", 0.0)])
    return Decision(stop, DOMINATED if stop else None, evidence)


def predicted_final(trial: TrialCurve, finished: Sequence[TrialCurve], base_objective: float) -> float:
    """Predicts the final objective of a stopped trial, pessimistically, for Optuna.

    Args:
        trial: The stopped trial.
        finished: Complete trials of the sweep.
        base_objective: The base model's, nats a token; returned where finished trials predict nothing.
    """
    place = locate(trial, finished)
    stopped_for_loss = any(finding["rule"] in (*AT_ONCE, STEADY_RISE) for finding in trial.findings)
    if place is None or place.outlook is None or stopped_for_loss:
        return base_objective
    best = float(place.finals.min())
    worse = float(place.outlook.final + place.outlook.sd)  # so that luck does not make the setting attractive
    # Not below the best, for it was stopped as no better. Not above the base model (gain 0), which stands for trials
    # that diverge, unless even the best is.
    return min(max(worse, best), max(base_objective, best))
