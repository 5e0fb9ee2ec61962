"""Stop or go: whether a running trial is worth its remaining steps. Pure.

A trial is stopped for one of three reasons, and every decision carries its numbers:

- at once, when its loss is not finite, has diverged or is worse than the base model's (the training loop does that by
  itself);
- when diagnostics confirm a steady rise of the loss at the peak of its LR schedule;
- as dominated, when its running loss is further behind that of the best trial, on the same samples, than the rest of
  the epoch can win back. That catch-up (the difference now less the difference at the end) is learnt from the sweep's
  finished trials, see `sweeps.pruning.final_prediction`: from four on by regression, before that by what they won
  back themselves, and before there are any, none is stopped for it.

Never during warm-up. Sources of the idea: samples are seen once and in the same order by all trials of a sweep, so that
the running loss is a held-out estimate and differences of it are paired.
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
    """What is to be done with a trial, and why.

    Attributes:
        stop: Whether it is stopped.
        rule: One of `AT_ONCE`, "steady_rise" or "dominated"; None for a trial that goes on.
        evidence: The numbers that were compared.
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
        siblings: Other running trials; those that have come as far can be better for certain too.
        worth: Nats a token; an improvement on the best by less is not worth finishing a trial for.
        level: Probability that a trial stopped as dominated would have ended behind.

    Returns:
        The decision with its numbers.

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
    """The final objective that a stopped trial is put down with: never a value from the middle of its epoch.

    It is what finished trials predict, made worse by one standard deviation, so that luck does not make it
    attractive;
    not below the best finished trial's, for it was stopped as no better; and not above the base model's (gain 0), which
    stands for trials that diverge, unless even the best is above that. Where finished trials predict nothing,
    and for a trial that was stopped for its rising or diverging loss, it is the base model's.

    Args:
        trial: The stopped trial.
        finished: Complete trials of the sweep.
        base_objective: The base model's, nats a token.
    """
    place = locate(trial, finished)
    stopped_for_loss = any(finding["rule"] in (*AT_ONCE, STEADY_RISE) for finding in trial.findings)
    if place is None or place.outlook is None or stopped_for_loss:
        return base_objective
    best = float(place.finals.min())
    worse = float(place.outlook.final + place.outlook.sd)
    return min(max(worse, best), max(base_objective, best))
