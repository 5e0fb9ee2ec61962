"""Why a trial was stopped as dominated, as a finding beside those of its own curve. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.pruning.trial_curve import TrialCurve
from trainables.diagnostics.finding import Finding

ALIKE = 1.2
"""Peak LRs within this factor don't explain why one trial is behind the other. Ours."""


def dominated_finding(
    trial: TrialCurve, finished: Sequence[TrialCurve], evidence: Mapping[str, Any], samples_per_step: int
) -> Finding:
    """What the trial's line in `trials.jsonl` says of it.

    Args:
        trial: The trial, as far as it came.
        finished: The complete trials that it was compared with.
        evidence: The decision's numbers, `best` among them: the trial that it is furthest behind.
        samples_per_step: Samples of a step.
    """
    best = next(other for other in finished if other.trial_id == evidence["best"])
    step = math.ceil(trial.seen / samples_per_step)
    window = math.ceil(evidence["window_samples"] / samples_per_step)
    own, better = float(trial.lr.max()), float(best.lr.max())
    told = {name: value for name, value in evidence.items() if isinstance(value, float | int | str)}
    return Finding(
        rule="dominated",
        severity="warning",
        step=step,
        evidence={
            **told,
            "peak_lr": own,
            "best_peak_lr": better,
            "from_step": max(1, step - window + 1),
            "to_step": step,
        },
        advice=_advice(own, better, best.trial_id),
    )


def _advice(own: float, better: float, best: str) -> str:
    if max(own, better) <= ALIKE * min(own, better):
        return f"keep space.peak_lr near {better:.1e}: {best} has the like and learns faster by its other settings"
    way = "lower" if own > better else "raise"
    times = f"{own / better:.3g} times" if own > better else f"{better / own:.3g} times below"
    return f"{way} space.peak_lr: try peak_lr {better:.1e}, that of {best} (this trial's, {own:.1e}, is {times} that)"
