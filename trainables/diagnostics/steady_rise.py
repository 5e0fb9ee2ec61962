"""The key rule: a loss that rises steadily while the LR is at its peak says that the peak is too high."""

from __future__ import annotations

from trainables.diagnostics.curve_state import PEAK_PARTS, Curve
from trainables.diagnostics.finding import Evidence, Finding, Settings, json_number, lower_lr_advice
from trainables.diagnostics.running_stats import Sums, difference_from, fit_line

# Looks, in twentieths of the phase at peak: four, always at the same places. A test that is repeated at every report
# point alarms on 17 % of flat curves (measured).
LOOKS = (8, 12, 16, 20)

LOOK_ALPHA = 0.005  # One-sided, for each look: four of them alarm on at most 2 % of flat curves (Bonferroni)

# A look takes in the whole phase at peak so far and, where that is longer, its last so many twentieths too, so that a
# fall before a rise does not hide it. Ours.
LATE_PARTS = 12

LEAST_STEPS = 6
# A look that sees less says nothing. Ours: a slope from fewer steps is an accident of a few batches.
LEAST_SAMPLES = 12

# The rise must be this part of the level, so that a very long phase at peak does not alarm for a rise that means
# nothing. Ours.
LEAST_RISE = 0.02


def steady_rise(curve: Curve, settings: Settings) -> Finding | None:
    """A loss that rises while the LR is at peak (warning; the trial scheduler may stop the trial for it).

    At 40, 60, 80 and 100 % of the steps at peak (after warm-up, LR at least 0.8 of the peak) the residuals of single
    samples (see `trainables.diagnostics.curve_state`) are tested for a rise in two ways, one-sided, at 0.5 % a look
    in all:

    - a straight line through them rises (Student's t with an error for unequal spreads);
    - where the base model's losses are known: their mean is above the base model's level, which is that of the start
      (Student's t). A trial that is no better than the base after its warm-up has lost what it had.

    Each sample is seen once and in random order, so the residuals of a curve without trend are independent, and a
    step's samples count one by one.
    """
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
    """A finding if the line through some twentieths of the phase at peak rises."""
    parts = curve.peak_parts[start:look]
    seen, steps = _seen(curve, settings, start, look)
    if seen is None:
        return None
    line = fit_line(parts)
    rise = line.slope * steps / settings.schedule.steps
    if line.rise_p >= alpha or rise < LEAST_RISE * seen.mean:
        return None
    evidence: Evidence = {"rise_nats": rise, "compared_with": "its own start at peak", "t": json_number(line.t)}
    return _finding(curve, settings, look, steps, seen, {**evidence, "p": line.rise_p, "alpha": alpha})


def _above_base(curve: Curve, settings: Settings, look: int, alpha: float) -> Finding | None:
    """A finding if the level at peak is above the base model's."""
    seen, steps = _seen(curve, settings, 0, look)
    if seen is None or settings.base_level is None:
        return None
    rise = difference_from(settings.base_level, seen)
    if rise.above_zero_p >= alpha or rise.value < LEAST_RISE * seen.mean:
        return None
    evidence: Evidence = {"rise_nats": rise.value, "compared_with": "the base model", "base_level": settings.base_level}
    return _finding(curve, settings, look, steps, seen, {**evidence, "p": rise.above_zero_p, "alpha": alpha})


def _seen(curve: Curve, settings: Settings, start: int, look: int) -> tuple[Sums | None, int]:
    """What some twentieths of the phase at peak hold, None if too little, and their steps."""
    length = len(settings.peak_steps)
    seen, steps = Sums.total(curve.peak_parts[start:look]), _steps_in(look, length) - _steps_in(start, length)
    return (seen if steps >= LEAST_STEPS and seen.n >= LEAST_SAMPLES else None), steps


def _finding(curve: Curve, settings: Settings, look: int, steps: int, seen: Sums, evidence: Evidence) -> Finding:
    evidence |= {
        "level": seen.mean,
        "look": LOOKS.index(look) + 1,
        "samples": seen.n,
        "lr": curve.lr,
        "from_step": curve.step - steps + 1,
        "to_step": curve.step,
    }
    if curve.beta is not None:
        evidence["beta"] = curve.beta
    advice = lower_lr_advice(settings)
    return Finding(rule="steady_rise", severity="warning", step=curve.step, evidence=evidence, advice=advice)


def _steps_in(parts: int, length: int) -> int:
    """Steps in the first so many twentieths of the phase at peak."""
    return -(-parts * length // PEAK_PARTS)
