"""The finding of a trial that was stopped as dominated. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.pruning.trial_curve import TrialCurve
from trainables.diagnostics.finding import Finding

CLOSE_PEAKS = 1.2  # peak LRs within this factor don't explain why one trial is behind the other (ours)


def dominated_finding(
    trial: TrialCurve, finished: Sequence[TrialCurve], evidence: Mapping[str, Any], samples_per_step: int
) -> Finding:
    """Builds the finding for the trial's record.

    Args:
        trial: The trial, as far as it came.
        finished: The complete trials that it was compared with.
        evidence: The decision's numbers, with `best`: the trial that it is furthest behind.
        samples_per_step: Samples of a step.
    """
    # A curve's own findings lack this one: only the comparison with other trials shows it.
    best = next(other for other in finished if other.trial_id == evidence["best"])
    step = math.ceil(trial.seen / samples_per_step)
    window = math.ceil(evidence["window_samples"] / samples_per_step)
    own, better = float(trial.lr.max()), float(best.lr.max())
    plain = {name: value for name, value in evidence.items() if isinstance(value, float | int | str)}
    return Finding(
        rule="dominated",
        severity="warning",
        step=step,
        evidence={
            **plain,
            "peak_lr": own,
            "best_peak_lr": better,
            "from_step": max(1, step - window + 1),
            "to_step": step,
        },
        advice=_advice(own, better, best.trial_id),
    )


def _advice(own: float, better: float, best: str) -> str:
    if max(own, better) <= CLOSE_PEAKS * min(own, better):
        return f"keep space.peak_lr near {better:.1e}: {best} has the like and learns faster by its other settings"
    way = "lower" if own > better else "raise"
    times = f"{own / better:.3g} times" if own > better else f"{better / own:.3g} times below"
    return f"{way} space.peak_lr: try peak_lr {better:.1e}, that of {best} (this trial's, {own:.1e}, is {times} that)"
