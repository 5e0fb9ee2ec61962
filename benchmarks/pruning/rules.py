"""Rules that stop trials in the replays: this project's, Ray Tune's ASHA, the median rule, none.

The others read either the held-out objective at each checkpoint, as `search.trial_scheduler` does, or the running loss
at each report, since otherwise they can't stop a trial between checkpoints.
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
GRACES, REDUCTIONS, LEAST = (12, 25, 50), (1.5, 4.0), 2  # percent of the epoch; reduction factors; trials
Measure = Callable[[TrialCurve], float | None]


def never_stop() -> Rule:
    """Stops no trial; diverging trials end regardless."""
    return lambda trial, finished, siblings: False


def evidence(level: float) -> Rule:
    """`sweeps.pruning`, which keeps no state between reports."""
    return lambda trial, finished, siblings: decide(trial, finished, siblings, level=level).stop


def heldout(trial: TrialCurve) -> float | None:
    """Objective of the checkpoint at this report; None between checkpoints."""
    return trial.heldout.get(trial.seen)


def running() -> Measure:
    """The running loss over the last part of the epoch, cached."""
    known: dict[tuple[str, int], float] = {}

    def measure(trial: TrialCurve) -> float | None:
        key = trial.trial_id, trial.seen
        if key not in known:
            known[key] = float(np.mean(trial.nll[-max(1, round(WINDOW * trial.samples)) :]))
        return known[key]

    return measure


def parametrized() -> dict[str, dict[str, Callable[[], Rule]]]:
    """ASHA and the median rule with several parametrizations, for the trials of one recording."""
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
    """Ray Tune's ASHA with one bracket; `grace` in percent of the epoch."""
    scheduler = AsyncHyperBandScheduler(
        time_attr=TIME, metric=METRIC, mode="min", max_t=WHOLE, grace_period=grace, reduction_factor=reduction
    )
    known: dict[str, Any] = {}  # stands for Tune's trials, whose id is all that it reads
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
    """The rule of Ray Tune's `MedianStoppingRule`, which is too slow for so many replays.

    A trial is stopped if its best value is worse than the median of the others' running means at the same time.

    Args:
        measure: The compared value.
        grace: Percent of the epoch before which no trial is stopped, and from which means are taken.
        least: Number of other trials required at the same time.
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
