"""Rules on unstable training: not finite, diverged, a spike in warm-up, gradients growing or clipped."""

from __future__ import annotations

import math
from statistics import median_low

from trainables.diagnostics.curve_state import SPIKE_STEPS, WINDOW_STEPS, Curve
from trainables.diagnostics.finding import Evidence, Finding, Settings, json_number, lower_lr_advice
from trainables.diagnostics.running_stats import Sums, difference, difference_from

# The thresholds are our own choices. A diverged decoder goes towards the loss of guessing, ln 49,152 = 10.8 nats for a
# vocabulary of 49,152 entries, from a start of 1 to 3 nats.
DIVERGED_RATIO = 2.0  # multiple of the level at the start ...
DIVERGED_NATS = 2.0  # ... and nats a token above it, so that a level near 0 is judged by its rise
WORSE_PART = 0.1  # excess over the base model's level, as a share of it
WORSE_ALPHA = 3e-5  # one-sided, 4 standard errors of a normal: small, as every step after the warm-up is tested
WORSE_LASTS = 0.05  # share of the epoch after the warm-up, at least 4 steps: leaves a spike time to come back
SPIKE_ALPHA = 1e-4  # one-sided: small, as every step of the warm-up and as many after it are tested
SPIKE_PART = 0.1  # least rise of a spike, as a share of the level before it
NORM_GROWTH = 4.0  # multiple of the median of the first 8 steps after warm-up
CLIPPED_PART = 0.5  # share of the steps after warm-up
LEAST_NORM_STEPS = 20  # steps after warm-up below which clipping is not judged


def non_finite(curve: Curve, settings: Settings) -> Finding | None:
    """A loss or a gradient norm that is NaN or infinite; a single step suffices (error)."""
    if math.isfinite(curve.loss) and math.isfinite(curve.grad_norm):
        return None
    if curve.step == 1:
        # The first loss and gradient come before the first update.
        advice = (
            "the LR is not the cause, for no weight had changed yet: set training.precision to fp32, "
            "and look at the samples of step 1"
        )
    else:
        advice = lower_lr_advice(settings)
    evidence: Evidence = {
        "loss": json_number(curve.loss),
        "grad_norm": json_number(curve.grad_norm),
        "lr": curve.lr,
        "from_step": curve.step,
        "to_step": curve.step,
    }
    return Finding(rule="non_finite", severity="error", step=curve.step, evidence=evidence, advice=advice)


def divergence(curve: Curve, settings: Settings) -> Finding | None:
    """A loss level above both 2 times and 2 nats more than the level at the start (error).

    A level is the low median (the fourth lowest) of 8 steps: of the first 8 and of the last 8, which may overlap. The
    loss must be high for 5 of the last 8 steps, so the rule fires four steps after the blow-up, at the ninth step at
    the earliest. It may miss a trial that blows up before its fifth step.
    """
    if len(curve.first_losses) < WINDOW_STEPS:
        return None
    # Medians: one batch of odd samples must not end a trial, and a blow-up as early as the fifth step must not
    # raise the level that the trial is judged by.
    start, level = median_low(curve.first_losses), median_low(curve.last_losses)
    threshold = max(DIVERGED_RATIO * start, start + DIVERGED_NATS)
    if level <= threshold:
        return None
    evidence: Evidence = {
        "start_loss": start,
        "loss_level": level,
        "threshold": threshold,
        "window_steps": WINDOW_STEPS,
        "lr": curve.lr,
        "from_step": curve.step - WINDOW_STEPS + 1,
        "to_step": curve.step,
    }
    advice = lower_lr_advice(settings)
    return Finding(rule="divergence", severity="error", step=curve.step, evidence=evidence, advice=advice)


def worse_than_base(curve: Curve, settings: Settings) -> Finding | None:
    """A trial that is worse than the untouched base model on the samples since its warm-up (error).

    A healthy trial is below the base model soon after its warm-up. The rule fires when the mean residual since the
    warm-up exceeds the base model's mean by a tenth and certainly (Student's t, 0.003 %), a twentieth of the epoch has
    passed since the warm-up, and the low median of the last 4 steps exceeds it by a tenth too.
    """
    # The base level is the mean over the whole training set, and samples come in random order. So residuals measure the
    # distance to it for any beta, and with the fitted one at the least variance.
    residuals, level = curve.since_warmup, settings.base_level
    steps = curve.step - settings.schedule.warmup_steps
    if level is None or steps < max(SPIKE_STEPS, WORSE_LASTS * settings.schedule.steps) or residuals.n < 2:
        return None
    over = difference_from(level, residuals)
    latest = median_low([part.mean if part.n else level for part in curve.recent])
    if min(over.value, latest - level) <= WORSE_PART * level or over.above_zero_p >= WORSE_ALPHA:
        return None
    evidence: Evidence = {
        "over_base": over.value,
        "standard_error": over.error,
        "p": over.above_zero_p,
        "alpha": WORSE_ALPHA,
        "base_level": level,
        "latest_over_base": latest - level,
        "samples": residuals.n,
        "lr": curve.lr,
        "from_step": settings.schedule.warmup_steps + 1,
        "to_step": curve.step,
    }
    if curve.beta is not None:
        evidence["beta"] = curve.beta
    advice = lower_lr_advice(settings)
    return Finding(rule="worse_than_base", severity="error", step=curve.step, evidence=evidence, advice=advice)


def warmup_spike(curve: Curve, settings: Settings) -> Finding | None:
    """A loss that shoots up in the warm-up or soon after it and comes back: the warm-up is too short (warning).

    Compares the mean of 4 steps with that of all steps before them (Welch, one-sided 0.01 %, and at least a tenth of
    the level), during the warm-up and as many steps after it plus 8. The rule fires when a later mean of 4 steps has
    come half-way back, before the LR leaves the peak; a loss that stays up is for `steady_rise` and `divergence`.
    """
    warmup, spike = settings.schedule.warmup_steps, curve.spike
    if curve.step > settings.peak_steps.stop or len(curve.recent) < SPIKE_STEPS:
        return None
    latest = Sums.total(curve.recent)
    if latest.n < 2 or curve.before.n < 2:
        return None
    if curve.step <= 2 * warmup + 2 * SPIKE_STEPS:
        rise = difference(latest, curve.before)
        high = rise.value > SPIKE_PART * curve.before.mean and rise.above_zero_p < SPIKE_ALPHA
        if high and latest.mean > spike.get("level", -math.inf):
            curve.spike = {"level": latest.mean, "step": curve.step, "p": rise.above_zero_p}
            return None
    if not spike or latest.mean > (spike["level"] + curve.before.mean) / 2.0:
        return None
    evidence: Evidence = {
        "level_before": curve.before.mean,
        "spike_level": spike["level"],
        "level_after": latest.mean,
        "p": spike["p"],
        "warmup_steps": warmup,
        "from_step": int(spike["step"]) - SPIKE_STEPS + 1,
        "to_step": curve.step,
    }
    return Finding(
        rule="warmup_spike", severity="warning", step=curve.step, evidence=evidence, advice=_warmup_advice(settings)
    )


def _warmup_advice(settings: Settings) -> str:
    fraction = settings.warmup_fraction
    if fraction >= 0.1:  # the recommended range ends there
        return f"the warm-up is long enough ({fraction:.2f} of the epoch): {lower_lr_advice(settings)}"
    longer = min(0.1, max(0.03, 2.0 * fraction))
    said = f"lengthen the warm-up: try space.warmup_fraction {longer:.2f} (this trial's: {fraction:.3f})"
    return f"{said}; where that is not enough, {lower_lr_advice(settings)}"


def grad_norm_growing(curve: Curve, settings: Settings) -> Finding | None:
    """A gradient norm four times that of the first steps after warm-up, while the LR is at peak (warning).

    Both are medians of 8 steps that do not overlap.
    """
    # Not in the decay: norms may grow there in healthy trials, as the loss gets small and sharp.
    if curve.steady_steps < 2 * WINDOW_STEPS or curve.step > settings.peak_steps.stop:
        return None
    first, last = math.exp(median_low(curve.first_norms)), math.exp(median_low(curve.last_norms))
    if last <= NORM_GROWTH * first:
        return None
    evidence: Evidence = {
        "first_norm": first,
        "last_norm": last,
        "ratio": last / first,
        "threshold": NORM_GROWTH,
        "lr": curve.lr,
        "from_step": settings.schedule.warmup_steps + 1,
        "to_step": curve.step,
    }
    advice = lower_lr_advice(settings)
    return Finding(rule="grad_norm_growing", severity="warning", step=curve.step, evidence=evidence, advice=advice)


def mostly_clipped(curve: Curve, settings: Settings) -> Finding | None:
    """More than half of the steps after warm-up were clipped, at the epoch's end (info)."""
    if curve.step < settings.schedule.steps or curve.steady_steps < LEAST_NORM_STEPS:
        return None
    part = curve.clipped_steps / curve.steady_steps
    if part <= CLIPPED_PART:
        return None
    # AdamW's step hardly depends on the gradient's scale, so clipping does little harm. But a threshold that acts
    # on most steps no longer singles out the outliers.
    usual, high = curve.norm_quantile(0.5), curve.norm_quantile(0.9)
    evidence: Evidence = {
        "clipped_part": part,
        "max_grad_norm": settings.max_grad_norm,
        "median_norm": usual,
        "norm_90_percent": high,
        "from_step": settings.schedule.warmup_steps + 1,
        "to_step": curve.step,
    }
    advice = f"raise training.max_grad_norm: try {high:.2g} (90 % of steps had a smaller norm)"
    return Finding(rule="mostly_clipped", severity="info", step=curve.step, evidence=evidence, advice=advice)
