"""Truths about recorded trials from evidence that the rules don't see: held-out items, and other seeds of the setting.

A truth may be unknown; such a trial counts neither way. Three rules have no truth in a recording: it ends where a loss
is not finite or has diverged, and doesn't tell how much of a fall at the end is the decay's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.diagnostics.recorded import MAX_GRAD_NORM, follow, samples_of, settings_of, true_rise
from benchmarks.recording.curves import Curves
from trainables.diagnostics import Finding, HeldoutPoint, heldout_findings
from trainables.diagnostics.convergence import HARDLY, LOW_LR, NOTHING
from trainables.diagnostics.finding import Settings
from trainables.diagnostics.stability import CLIPPED_PART, NORM_GROWTH, SPIKE_PART, SPIKE_STEPS, WORSE_LASTS, WORSE_PART
from trainables.diagnostics.steady_rise import LEAST_RISE

Truth = bool | None

# Held-out items that rules are given, and those that tell the truth: every other one.
RULES_ITEMS, TRUTH_ITEMS = 0, 1

# Trials of one setting from whose mean a truth is taken.
LEAST_SEEDS = 3

# Part of the base model's loss by which held-out losses must differ for a difference to be there for sure.
MATTERS = 0.01


def findings_of(curves: Curves, trial: int, base_level: float) -> list[Finding]:
    """Findings on a recorded trial, from its curve and its held-out losses."""
    found, monitor = follow(samples_of(curves, trial), curves.schedule(trial), base_level)
    points = _points(curves, trial, RULES_ITEMS)
    if not points or any(finding["severity"] == "error" for finding in found):
        return found
    groups = {area: [str(item) for item in range(len(items))] for area, items in points[-1].items.items()}
    weights = dict.fromkeys(curves.areas, 1.0)
    return found + heldout_findings(
        points,
        _by_area(curves, curves.base_heldout, RULES_ITEMS),
        groups,
        weights,
        monitor.settings,
        monitor.training_fall,
    )


def truths(curves: Curves) -> dict[str, list[Truth]]:
    """By rule and trial, whether the rule should speak; None if unknown."""
    found: dict[str, list[Truth]] = {rule: [None] * len(curves.study) for rule in (*OF_TRIALS, *OF_SETTINGS)}
    for setting in settings_of(curves):
        for trial in setting.trials:
            for rule, of_trial in OF_TRIALS.items():
                found[rule][trial] = of_trial(curves, trial)
            others = tuple(other for other in setting.trials if other != trial)
            for rule, of_setting in OF_SETTINGS.items():
                found[rule][trial] = of_setting(curves, trial, others) if len(others) + 1 >= LEAST_SEEDS else None
    return found


def worse(curves: Curves, trial: int) -> Truth:
    """Held-out loss above the base model's by a tenth, soon after the warm-up (in the first third of the epoch)."""
    schedule = curves.schedule(trial)
    first = schedule.warmup_steps / schedule.steps + WORSE_LASTS
    seen = curves.objective[trial, (curves.points >= first) & (curves.points <= 1 / 3)]
    return _sure(float(seen.mean()) / curves.base_objective - 1.0, WORSE_PART) if len(seen) else None


def hardly_moved(curves: Curves, trial: int) -> Truth:
    """Final held-out loss within 5 % of the base model's."""
    final = curves.objective[trial, -1]
    return bool(abs(curves.base_objective - final) < HARDLY * curves.base_objective) if np.isfinite(final) else None


def nothing_later(curves: Curves, trial: int) -> Truth:
    """Held-out loss flat from a point in the middle half of the epoch with an LR below half of the peak."""
    schedule, objective = curves.schedule(trial), curves.objective[trial]
    whole = curves.base_objective - objective[-1]
    if not np.isfinite(objective).all() or whole < HARDLY * curves.base_objective:
        return None
    lrs = np.array([schedule.lr(min(round(point * schedule.steps), schedule.steps - 1)) for point in curves.points])
    low = (lrs <= LOW_LR * schedule.peak_lr) & (lrs > schedule.floor_lr)
    candidates = objective[low & (curves.points >= 0.25) & (curves.points <= 0.75)]
    return bool((candidates - objective[-1] < NOTHING * whole).any()) if len(candidates) else None


def clipped(curves: Curves, trial: int) -> Truth:
    norms = curves.grad_norm[trial, curves.schedule(trial).warmup_steps :]
    return bool(np.mean(norms > MAX_GRAD_NORM) > CLIPPED_PART) if np.isfinite(norms).all() else None


def rises(curves: Curves, trial: int, others: tuple[int, ...]) -> Truth:
    """The mean curve of the setting's trials rises while the LR is at peak."""
    rise = true_rise(curves, (trial, *others))
    return None if rise is None else rise > LEAST_RISE


def norm_grows(curves: Curves, trial: int, others: tuple[int, ...]) -> Truth:
    """The other seeds' geometric mean norm grows fourfold from the first third of the steps at peak to the last."""
    norms = np.log(curves.grad_norm[list(others)][:, _peak(curves, trial)])
    if norms.shape[1] < LEAST_SEEDS or not np.isfinite(norms).all():
        return None
    first, _, last = (part.mean() for part in np.array_split(norms, 3, axis=1))
    return bool(last - first > np.log(NORM_GROWTH))


def spikes(curves: Curves, trial: int, others: tuple[int, ...]) -> Truth:
    """The other seeds' mean loss has a spike of 4 steps in or after the warm-up that comes half-way back at peak."""
    level = _mean_level(curves, others)
    peak, warmup = _peak(curves, trial), curves.schedule(trial).warmup_steps
    if level is None or peak.stop < 2 * SPIKE_STEPS:
        return None
    means = np.convolve(level[: peak.stop], np.ones(SPIKE_STEPS) / SPIKE_STEPS, "valid")
    for start in range(SPIKE_STEPS, min(2 * warmup + SPIKE_STEPS, len(means))):
        before = level[:start].mean()
        back = (means[start] + before) / 2
        if means[start] > (1 + SPIKE_PART) * before and (means[start:] < back).any():
            return True
    return False


def forgets(curves: Curves, trial: int) -> Truth:
    """Worse than the base model at the end on an area's other items."""
    points = _points(curves, trial, TRUTH_ITEMS)
    if not points:
        return None
    base = _by_area(curves, curves.base_heldout, TRUTH_ITEMS)
    return _sure(max(float(np.mean(points[-1].items[area]) / np.mean(base[area])) - 1.0 for area in base), MATTERS)


def gets_worse(curves: Curves, trial: int) -> Truth:
    """Worse at the end than at an earlier point on the other items."""
    levels = [np.mean([np.mean(items) for items in p.items.values()]) for p in _points(curves, trial, TRUTH_ITEMS)]
    return _sure(float(levels[-1] - min(levels[:-1])) / curves.base_objective, MATTERS) if len(levels) > 1 else None


# Truths from the trial's own held-out items, or its norms.
OF_TRIALS: dict[str, Callable[[Curves, int], Truth]] = {
    "worse_than_base": worse,
    "barely_moving": hardly_moved,
    "nothing_gained_below": nothing_later,
    "mostly_clipped": clipped,
    "forgetting": forgets,
    "heldout_worse": gets_worse,
}

# Truths from other seeds of the trial's setting.
OF_SETTINGS: dict[str, Callable[[Curves, int, tuple[int, ...]], Truth]] = {
    "steady_rise": rises,
    "grad_norm_growing": norm_grows,
    "warmup_spike": spikes,
}


def _peak(curves: Curves, trial: int) -> slice:
    steps = Settings(curves.schedule(trial), MAX_GRAD_NORM).peak_steps
    return slice(steps.start, steps.stop)


def _mean_level(curves: Curves, trials: tuple[int, ...]) -> np.ndarray | None:
    """Mean step loss over trials less half of the base loss, (steps up to the end of the peak phase,)."""
    levels = []
    for trial in trials:
        samples = samples_of(curves, trial)
        adjusted = samples.nll - 0.5 * (samples.base - samples.base.mean())
        levels.append([adjusted[samples.step(step)].mean() for step in range(_peak(curves, trial).stop)])
    mean = np.mean(levels, axis=0)
    return mean if np.isfinite(mean).all() else None


def _sure(difference: float, least: float) -> Truth:
    """True above `least`, False at 0 or below, None between."""
    return True if difference > least else False if difference <= 0.0 else None


def _by_area(curves: Curves, nll: np.ndarray, part: int) -> dict[str, list[float]]:
    return {name: nll[curves.area_of == area][part::2].tolist() for area, name in enumerate(curves.areas)}


def _points(curves: Curves, trial: int, part: int) -> list[HeldoutPoint]:
    """Held-out points of a complete trial on half of the items; none for an incomplete trial."""
    if not np.isfinite(curves.heldout[trial]).all():
        return []
    steps, heldout = curves.grad_norm.shape[1], curves.heldout[trial].astype(float)
    return [
        HeldoutPoint(max(1, round(float(point) * steps)), _by_area(curves, heldout[place], part))
        for place, point in enumerate(curves.points)
    ]
