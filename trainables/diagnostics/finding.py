"""The form of a finding, and advice that several rules share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypedDict

from trainables.optim.lr_schedule import LRSchedule

Severity = Literal["error", "warning", "info"]
Evidence = dict[str, float | str]


class Finding(TypedDict):
    """Result of a rule.

    Attributes:
        rule: Name of the rule.
        severity: "error" (the trial's result is not usable: it has diverged), "warning" or "info".
        step: Step at which the rule fired, 1-based as in the curve.
        evidence: The numbers that the rule compared, with the range of steps, `from_step` to `to_step` (both included).
            Numbers that JSON cannot hold are the texts "nan", "inf", "-inf".
        advice: The setting to change and the value to try.
    """

    rule: str
    severity: Severity
    step: int
    evidence: Evidence
    advice: str


@dataclass(frozen=True)
class Settings:
    """The trial's settings that rules and advice refer to.

    Attributes:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold of the gradient's L2 norm; 0 means no clipping.
        base_level: The base model's mean loss over the training set, in nats a token; None if not computed.
    """

    schedule: LRSchedule
    max_grad_norm: float
    base_level: float | None = None

    @cached_property
    def peak_steps(self) -> range:
        """The steps at peak, counted from 0: after warm-up and with an LR of at least 0.8 of the peak."""
        schedule = self.schedule
        stop = schedule.warmup_steps
        while stop < schedule.steps and schedule.phase(stop) == "peak":
            stop += 1
        return range(schedule.warmup_steps, stop)

    @property
    def warmup_fraction(self) -> float:
        return self.schedule.warmup_steps / self.schedule.steps


def lower_lr_advice(settings: Settings) -> str:
    """Advise half the peak LR, and clipping if there was none."""
    advice = f"lower space.peak_lr: try peak_lr {settings.schedule.peak_lr / 2.0:.1e} (half of this trial's)"
    if settings.max_grad_norm == 0.0:
        advice += "; clip gradients: try training.max_grad_norm 1.0 (this trial did not clip)"
    return advice


def json_number(value: float) -> float | str:
    """The value, or its name ("nan", "inf", "-inf") where JSON has no number for it."""
    return value if math.isfinite(value) else str(float(value))
