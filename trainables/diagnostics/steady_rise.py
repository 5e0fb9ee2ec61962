"""The key rule: a loss that rises steadily while the LR is at its peak shows that the peak is too high."""

from __future__ import annotations

from trainables.diagnostics.curve_state import PEAK_PARTS, Curve
from trainables.diagnostics.finding import Evidence, Finding, Settings, json_number, lower_lr_advice
from trainables.diagnostics.running_stats import Sums, difference_from, fit_line

# Interim looks, in twentieths of the phase at peak: four, always at the same positions. A test repeated at every report
# point alarms on 17 % of flat curves (measured).
LOOKS = (8, 12, 16, 20)
LOOK_ALPHA = 0.005  # one-sided, for each look: four of them alarm on at most 2 % of flat curves (Bonferroni)
# The numbers below are our own choices.
LATE_PARTS = 12  # a look also tests the last twelve twentieths, so that a fall before a rise does not hide it
LEAST_STEPS = 6  # a slope from fewer steps is an accident of a few batches
LEAST_SAMPLES = 12
LEAST_RISE = 0.02  # share of the level: a long phase at peak must not alarm for a rise without meaning


def steady_rise(curve: Curve, settings: Settings) -> Finding | None:
    """A loss that rises while the LR is at peak (warning; the trial scheduler may stop the trial for it).

    At 40, 60, 80 and 100 % of the steps at peak (after warm-up, LR at least 0.8 of the peak) two one-sided tests run on
    the residuals of single samples (see `trainables.diagnostics.curve_state`), at 0.5 % a look in all:

    - a straight line through them rises (Student's t with a heteroscedasticity-robust error);
    - with known base losses: their mean is above the base model's level, which is that of the start (Student's t).
    """
    # A sample is used once and in random order: residuals of a curve without trend are independent, even within a step.
    length = len(settings.peak_steps)
    done = curve.step - settings.peak_steps.start
    look = next((look for look in LOOKS if done == _steps_in(look, length)), None)
    if look is None:
        return None
    starts = sorted({0, max(0, look - LATE_PARTS)})
    has_base = settings.base_level is not None and curve.beta is not None
    for_lines = LOOK_ALPHA / 2.0 if has_base else LOOK_ALPHA
    found = [_above_base(curve, settings, look, LOOK_ALPHA / 2.0)] if has_base else []
    found += [_rising_line(curve, settings, start, look, for_lines / len(starts)) for start in starts]
    return next((finding for finding in found if finding), None)


def _rising_line(curve: Curve, settings: Settings, start: int, look: int, alpha: float) -> Finding | None:
    parts = curve.peak_parts[start:look]
    sums, steps = _sums_between(curve, settings, start, look)
    if sums is None:
        return None
    line = fit_line(parts)
    rise = line.slope * steps / settings.schedule.steps
    if line.rise_p >= alpha or rise < LEAST_RISE * sums.mean:
        return None
    evidence: Evidence = {"rise_nats": rise, "compared_with": "its own start at peak", "t": json_number(line.t)}
    return _finding(curve, settings, look, steps, sums, {**evidence, "p": line.rise_p, "alpha": alpha})


def _above_base(curve: Curve, settings: Settings, look: int, alpha: float) -> Finding | None:
    sums, steps = _sums_between(curve, settings, 0, look)
    if sums is None or settings.base_level is None:
        return None
    rise = difference_from(settings.base_level, sums)
    if rise.above_zero_p >= alpha or rise.value < LEAST_RISE * sums.mean:
        return None
    evidence: Evidence = {"rise_nats": rise.value, "compared_with": "the base model", "base_level": settings.base_level}
    return _finding(curve, settings, look, steps, sums, {**evidence, "p": rise.above_zero_p, "alpha": alpha})


def _sums_between(curve: Curve, settings: Settings, start: int, look: int) -> tuple[Sums | None, int]:
    """Sums over some twentieths of the phase at peak (None if too few samples), and the number of steps in them."""
    length = len(settings.peak_steps)
    sums, steps = Sums.total(curve.peak_parts[start:look]), _steps_in(look, length) - _steps_in(start, length)
    return (sums if steps >= LEAST_STEPS and sums.n >= LEAST_SAMPLES else None), steps


def _finding(curve: Curve, settings: Settings, look: int, steps: int, sums: Sums, evidence: Evidence) -> Finding:
    evidence |= {
        "level": sums.mean,
        "look": LOOKS.index(look) + 1,
        "samples": sums.n,
        "lr": curve.lr,
        "from_step": curve.step - steps + 1,
        "to_step": curve.step,
    }
    if curve.beta is not None:
        evidence["beta"] = curve.beta
    advice = lower_lr_advice(settings)
    return Finding(rule="steady_rise", severity="warning", step=curve.step, evidence=evidence, advice=advice)


def _steps_in(parts: int, length: int) -> int:
    """Steps in the first `parts` twentieths of the phase at peak."""
    return -(-parts * length // PEAK_PARTS)
