"""Rules on the gain of a complete epoch: hardly any, still falling at its end, or none below some LR.

They run at the last step and compare means of residuals over sixteenths of the epoch.
"""

from __future__ import annotations

from itertools import combinations

from trainables.diagnostics.curve_state import BLOCKS, Curve
from trainables.diagnostics.finding import Evidence, Finding, Settings
from trainables.diagnostics.running_stats import Difference, Sums, difference, difference_to

# The numbers below without a source are our own choices. Absence is claimed only where a confidence bound excludes the
# effect: with too few or too uneven samples the rules stay silent.
CONFIDENCE = 0.995  # one-sided, of every bound here
HARDLY = 0.05  # a smaller share of the level at the start is hardly a change
RAISE_PEAK = 3.0  # advised factor where the LR is too low: half a decade, the step of a coarse search
QUARTER = BLOCKS // 4
STEEP_PART = 0.2  # share of the whole fall in the last quarter: above 1/4 on a straight line, small on a settled curve
BEYOND_DECAY = 1.5  # ... and multiple of the fall that the LR's decline explains
LOW_LR = 0.5  # share of the peak below which `nothing_gained_below` examines an LR
NOTHING = 0.1  # a smaller share of the whole fall is nothing


def barely_moving(curve: Curve, settings: Settings) -> Finding | None:
    """The last quarter of the epoch lies within 5 % of the start's level, up or down: the LR is too low (warning).

    The start is the base model's mean over the training set or, without it, the first sixteenth of the epoch. Both
    bounds (99.5 %) of the change must lie within the 5 %.
    """
    if not _is_over(curve, settings):
        return None
    start, fall = _fall(curve, settings, Sums.total(curve.blocks[-QUARTER:]))
    if abs(fall.value) + fall.bound(CONFIDENCE) >= HARDLY * start:
        return None
    evidence: Evidence = {
        "start_level": start,
        "fall_nats": fall.value,
        "fall_at_most": fall.value + fall.bound(CONFIDENCE),
        "threshold": HARDLY * start,
        "peak_lr": settings.schedule.peak_lr,
        **_steps(settings, BLOCKS - QUARTER),
    }
    higher = RAISE_PEAK * settings.schedule.peak_lr
    advice = f"raise space.peak_lr: try peak_lr {higher:.1e} ({RAISE_PEAK:g} times this trial's)"
    return Finding(rule="barely_moving", severity="warning", step=curve.step, evidence=evidence, advice=advice)


def still_falling(curve: Curve, settings: Settings) -> Finding | None:
    """The loss still falls steeply over the last quarter, by more than the LR's decline explains (info).

    As a yardstick, the decay explains the whole fall times the share of the peak LR given up in the last quarter. The
    rule fires when the loss fell by 1.5 times that and by a fifth of the whole fall (99.5 % bounds of both falls above
    0). Levels come from eighths of the epoch whose middles lie a quarter apart. It never fires under a decay at the
    very end ("wsd"), nor for a curve that recovers from a rise. It does not measure the value of more data: that takes
    complete schedules on nested subsets.
    """
    if not _is_over(curve, settings):
        return None
    before, last = (Sums.total(curve.blocks[end - 2 : end]) for end in (BLOCKS - QUARTER, BLOCKS))
    _, whole = _fall(curve, settings, last)
    late = difference(before, last)
    if min(fall.value - fall.bound(CONFIDENCE) for fall in (whole, late)) <= 0.0:
        return None
    # After a rise the LR was too high, not too low.
    if _has_risen(curve):
        return None
    schedule = settings.schedule
    lrs = [schedule.lr(block * schedule.steps // BLOCKS) for block in (BLOCKS - QUARTER - 1, BLOCKS - 1)]
    # A lower LR lets the loss settle, and a single curve can't tell settling from learning.
    expected = (lrs[0] - lrs[1]) / schedule.peak_lr * whole.value
    if late.value < max(STEEP_PART * whole.value, BEYOND_DECAY * expected):
        return None
    evidence: Evidence = {
        "late_fall_nats": late.value,
        "late_fall_at_least": late.value - late.bound(CONFIDENCE),
        "whole_fall_nats": whole.value,
        "laid_to_the_decay_nats": expected,
        **_steps(settings, BLOCKS - QUARTER - 2),
    }
    higher = RAISE_PEAK * schedule.peak_lr
    advice = (
        f"the epoch was over before the loss had settled: try space.peak_lr {higher:.1e} "
        f"({RAISE_PEAK:g} times this trial's); whether more samples would help, one curve cannot tell: "
        "more_data.subsets true measures it on nested subsets"
    )
    return Finding(rule="still_falling", severity="info", step=curve.step, evidence=evidence, advice=advice)


def nothing_gained_below(curve: Curve, settings: Settings) -> Finding | None:
    """From some LR on, at most half of the peak, the loss fell no further: the floor may be higher (info).

    Compares the sixteenth in which that LR was reached and the next one with the last two: the 99.5 % bound of the fall
    must be below a tenth of the whole fall, which must itself be certain. Names the highest such LR.
    """
    if not _is_over(curve, settings):
        return None
    last = Sums.total(curve.blocks[-2:])
    start, whole = _fall(curve, settings, last)
    if whole.value - whole.bound(CONFIDENCE) < HARDLY * start:
        return None
    schedule = settings.schedule
    for block in range(BLOCKS // 4, BLOCKS - QUARTER):
        lr = schedule.lr(block * schedule.steps // BLOCKS)
        if lr > LOW_LR * schedule.peak_lr or lr <= schedule.floor_lr:
            continue
        fall = difference(Sums.total(curve.blocks[block : block + 2]), last)
        if fall.value + fall.bound(CONFIDENCE) < NOTHING * whole.value:
            evidence: Evidence = {
                "below_lr": lr,
                "fall_nats": fall.value,
                "fall_at_most": fall.value + fall.bound(CONFIDENCE),
                "whole_fall_nats": whole.value,
                "floor_lr": schedule.floor_lr,
                **_steps(settings, block),
            }
            advice = f"raise space.decay_floor: try {lr:.1e} (this trial's: {schedule.floor_lr:.1e})"
            return Finding(
                rule="nothing_gained_below", severity="info", step=curve.step, evidence=evidence, advice=advice
            )
    return None


def training_fall(curve: Curve, settings: Settings, from_step: int, to_step: int) -> Difference | None:
    """Fall of the training loss between two steps: from the eighth of the epoch before one to that before the other.

    Args:
        curve: The curve so far.
        settings: The trial's diagnostics.
        from_step: The earlier step.
        to_step: The later one.

    Returns:
        None if there are too few samples before one of them, or the two eighths overlap.
    """
    ends = [step * BLOCKS // settings.schedule.steps for step in (from_step, to_step)]
    if ends[1] - ends[0] < 2:
        return None
    first, last = (Sums.total(curve.blocks[max(0, end - 2) : end]) for end in ends)
    return difference(first, last) if first.n > 1 and last.n > 1 else None


def _is_over(curve: Curve, settings: Settings) -> bool:
    """Whether this is the last step of an epoch with at least two samples in every block."""
    return curve.step == settings.schedule.steps and all(block.n > 1 for block in curve.blocks)


def _fall(curve: Curve, settings: Settings, end: Sums) -> tuple[float, Difference]:
    """The level at the start, and the fall from it."""
    if settings.base_level is not None and curve.beta is not None:
        return settings.base_level, difference_to(settings.base_level, end)
    return curve.blocks[0].mean, difference(curve.blocks[0], end)


def _has_risen(curve: Curve) -> bool:
    """Whether, before the last quarter, an eighth of the epoch is certainly above an earlier one."""
    eighths = [Sums.total(curve.blocks[start : start + 2]) for start in range(0, BLOCKS - QUARTER, 2)]
    rises = (difference(later, earlier) for earlier, later in combinations(eighths, 2))
    return any(rise.value > rise.bound(CONFIDENCE) for rise in rises)


def _steps(settings: Settings, first_block: int) -> dict[str, float]:
    steps = settings.schedule.steps
    # A block begins at the first step whose position, rounded down, is in it.
    return {"from_step": -(-first_block * steps // BLOCKS) + 1, "to_step": steps}
