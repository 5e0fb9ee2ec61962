"""Who stops trials in the replays: the evidence that this project goes by, Ray Tune's ASHA, the median rule, nobody.

The others are asked with two metrics: the held-out objective at each checkpoint, as `search.trial_scheduler` has it,
and the running loss at each report, for they can't stop a trial between checkpoints otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from benchmarks.pruning.replay import Rule
from sweeps.pruning.decision import decide
from sweeps.pruning.dominance import WINDOW
from sweeps.pruning.trial_curve import TrialCurve

METRIC, TIME, WHOLE = "metric", "percent", 100
GRACES, REDUCTIONS, LEAST = (12, 25, 50), (1.5, 4.0), 2
Measure = Callable[[TrialCurve], float | None]


def nobody() -> Rule:
    """No trial is stopped; those that diverge end all the same."""
    return lambda trial, finished, siblings: False


def evidence(level: float) -> Rule:
    """`sweeps.pruning`, which remembers nothing from report to report."""
    return lambda trial, finished, siblings: decide(trial, finished, siblings, level=level).stop


def heldout(trial: TrialCurve) -> float | None:
    """The objective of the checkpoint that the trial has just written; None between checkpoints."""
    return trial.heldout.get(trial.seen)


def running() -> Measure:
    """The running loss over the last part of the epoch; each is computed once."""
    known: dict[tuple[str, int], float] = {}

    def measure(trial: TrialCurve) -> float | None:
        key = trial.trial_id, trial.seen
        if key not in known:
            known[key] = float(np.mean(trial.nll[-max(1, round(WINDOW * trial.samples)) :]))
        return known[key]

    return measure


def parametrised() -> dict[str, dict[str, Callable[[], Rule]]]:
    """ASHA and the median rule, each with several parametrisations, for the trials of one recording."""
    measures: dict[str, Measure] = {"held-out": heldout, "running loss": running()}
    ashas: dict[str, Callable[[], Rule]] = {
        f"{metric}, grace {grace} %, reduction {reduction:g}": partial(asha, measure, grace, reduction)
        for metric, measure in measures.items()
        for grace in GRACES
        for reduction in REDUCTIONS
    }
    medians: dict[str, Callable[[], Rule]] = {
        f"{metric}, grace {grace} %": partial(median, measure, grace, LEAST)
        for metric, measure in measures.items()
        for grace in GRACES
    }
    return {"asha": ashas, "median": medians}


def asha(measure: Measure, grace: int, reduction: float) -> Rule:
    """Ray Tune's own ASHA with one bracket; `grace` in percent of the epoch."""
    scheduler = AsyncHyperBandScheduler(
        time_attr=TIME, metric=METRIC, mode="min", max_t=WHOLE, grace_period=grace, reduction_factor=reduction
    )
    known: dict[str, Any] = {}  # stands for Tune's trials, of which it asks the id alone
    controller: Any = None

    def rule(trial: TrialCurve, _finished: Sequence[TrialCurve], _siblings: Sequence[TrialCurve]) -> bool:
        if trial.trial_id not in known:
            known[trial.trial_id] = SimpleNamespace(trial_id=trial.trial_id)
            scheduler.on_trial_add(controller, known[trial.trial_id])
        if (value := measure(trial)) is None:
            return False
        result = {TIME: WHOLE * trial.seen / trial.samples, METRIC: value}
        return bool(scheduler.on_trial_result(controller, known[trial.trial_id], result) == TrialScheduler.STOP)

    return rule


def median(measure: Measure, grace: int, least: int) -> Rule:
    """The median stopping rule as in Ray Tune's `MedianStoppingRule`, which is too slow for so many replays.

    A trial is stopped when its best value so far is worse than the median, over all others that have come as far, of
    their mean value from the grace period on to here.

    Args:
        measure: What is compared.
        grace: Percent of the epoch before which none is stopped.
        least: Other trials that must have come as far.
    """
    best: dict[str, float] = {}
    sums: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    means: dict[float, dict[str, float]] = defaultdict(dict)  # by time, of every trial that came so far

    def rule(trial: TrialCurve, _finished: Sequence[TrialCurve], _siblings: Sequence[TrialCurve]) -> bool:
        if (value := measure(trial)) is None:
            return False
        name, time = trial.trial_id, WHOLE * trial.seen / trial.samples
        best[name] = min(value, best.get(name, value))
        if time < grace:
            return False
        total, count = sums[name]
        sums[name] = (total + value, count + 1)
        others = list(means[time].values())
        means[time][name] = (total + value) / (count + 1)
        return len(others) >= least and best[name] > float(np.median(others))

    return rule
