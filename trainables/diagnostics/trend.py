"""The key rule: a loss that rises steadily while the LR is at its peak says that the peak is too high."""

from __future__ import annotations

from trainables.diagnostics.curve import PEAK_PARTS, Curve
from trainables.diagnostics.finding import Evidence, Finding, Settings, json_number, lower_lr_advice
from trainables.diagnostics.sums import Sums, fit_line

LOOKS = (8, 12, 16, 20)
"""Looks, in twentieths of the phase at peak: four, always at the same places. A test that is repeated at every report
point alarms on 17 % of flat curves (measured)."""

LOOK_ALPHA = 0.005
"""One-sided, for each look: four of them alarm on at most 2 % of flat curves (Bonferroni)."""

LATE_PARTS = 12
"""A look takes in the whole phase at peak so far and, where that is longer, its last so many twentieths too, so that a
fall before a rise does not hide it; the two share the look's alpha (Bonferroni). Ours."""

LEAST_STEPS = 8
LEAST_SAMPLES = 32
"""A look that sees less says nothing. Ours: a slope from fewer steps is an accident of a few batches."""

LEAST_RISE = 0.02
"""The line must rise by this part of the level over what the look sees, so that a very long phase at peak does not
alarm for a rise that means nothing. Ours."""


def steady_rise(curve: Curve, settings: Settings) -> Finding | None:
    """A loss that rises while the LR is at peak (warning; the trial scheduler may stop the trial for it).

    At 40, 60, 80 and 100 % of the steps at peak (after warm-up, LR at least 0.8 of the peak) a straight line is fitted
    through the residuals of single samples (see `trainables.diagnostics.curve`) and tested for a rise: Student's t with
    an error for unequal spreads, one-sided, 0.5 % a look. Each sample is seen once and in random order, so the
    residuals of a curve without trend are independent, and a step's samples count one by one.
    """
    length = len(settings.peak_steps)
    done = curve.step - settings.peak_steps.start
    look = next((look for look in LOOKS if done == _steps_in(look, length)), None)
    if look is None:
        return None
    starts = {0, max(0, look - LATE_PARTS)}
    found = [_rise(curve, settings, start, look, LOOK_ALPHA / len(starts)) for start in sorted(starts)]
    return next((finding for finding in found if finding), None)


def _rise(curve: Curve, settings: Settings, start: int, look: int, alpha: float) -> Finding | None:
    """A finding if the line through some twentieths of the phase at peak rises."""
    length = len(settings.peak_steps)
    parts = curve.peak_parts[start:look]
    seen = Sums.total(parts)
    steps = _steps_in(look, length) - _steps_in(start, length)
    if steps < LEAST_STEPS or seen.n < LEAST_SAMPLES:
        return None
    line = fit_line(parts)
    rise = line.slope * steps / settings.schedule.steps
    if line.rise_p >= alpha or rise < LEAST_RISE * seen.mean:
        return None
    evidence: Evidence = {
        "rise_nats": rise,
        "level": seen.mean,
        "t": json_number(line.t),
        "p": line.rise_p,
        "alpha": alpha,
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
