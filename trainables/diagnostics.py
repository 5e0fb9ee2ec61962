"""What a loss curve shows while a trial trains: findings with evidence in numbers and advice. Pure and incremental.

A rule is a function from the curve so far to a finding or None; it is told of every step and reports once a trial.
To add one, write the function and enter it in `RULES`; what it must remember between steps belongs in `Curve`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median_low
from typing import Any, Literal, TypedDict

from trainables.schedule import LRSchedule

Severity = Literal["error", "warning", "info"]

WINDOW_STEPS = 8
"""Steps that a loss level is taken from."""

DIVERGED_RATIO = 2.0
"""The loss level has diverged when it is above this multiple of the start's ..."""

DIVERGED_NATS = 2.0
"""... and above the start's by more than this many nats a token, so that a level near 0 is judged by its rise."""


class Finding(TypedDict):
    """What a rule saw.

    Attributes:
        rule: Name of the rule, a key of `RULES`.
        severity: "error" (the trial's result is not usable: it has diverged), "warning" or "info".
        step: Step at which the rule saw it, 1-based as in the curve.
        evidence: The numbers that the rule compared. Numbers that JSON cannot hold are the texts "nan", "inf", "-inf".
        advice: The setting to change and the value to try.
    """

    rule: str
    severity: Severity
    step: int
    evidence: dict[str, float | str]
    advice: str


@dataclass
class Curve:
    """The loss curve so far, as much of it as the rules need.

    Attributes:
        step: The last step seen, 1-based; 0 before the first.
        loss: Its mean loss, nats a label token.
        grad_norm: Its gradient's total L2 norm before clipping.
        lr: Its LR.
        first_losses: The first finite losses, at most `WINDOW_STEPS`.
        last_losses: The last finite losses, at most `WINDOW_STEPS`.
    """

    step: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = 0.0
    first_losses: list[float] = field(default_factory=list)
    last_losses: list[float] = field(default_factory=list)

    def add(self, step: int, loss: float, grad_norm: float, lr: float) -> None:
        """Takes in the next step; a non-finite loss is seen but enters no window."""
        self.step, self.loss, self.grad_norm, self.lr = step, loss, grad_norm, lr
        if not math.isfinite(loss):
            return
        if len(self.first_losses) < WINDOW_STEPS:
            self.first_losses.append(loss)
        self.last_losses = [*self.last_losses, loss][-WINDOW_STEPS:]


@dataclass(frozen=True)
class Settings:
    """The settings of the trial that the advice refers to.

    Attributes:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold of the gradient's L2 norm; 0 means no clipping.
    """

    schedule: LRSchedule
    max_grad_norm: float


def non_finite(curve: Curve, settings: Settings) -> Finding | None:
    """A loss or a gradient norm that is NaN or infinite: no threshold, once is enough (error)."""
    if math.isfinite(curve.loss) and math.isfinite(curve.grad_norm):
        return None
    if curve.step == 1:
        # The first loss and gradient come before the first update.
        advice = (
            "the LR is not the cause, for no weight had changed yet: set training.precision to fp32, "
            "and look at the samples of step 1"
        )
    else:
        advice = _lower_lr_advice(settings)
    evidence = {"loss": _json_number(curve.loss), "grad_norm": _json_number(curve.grad_norm), "lr": curve.lr}
    return Finding(rule="non_finite", severity="error", step=curve.step, evidence=evidence, advice=advice)


def divergence(curve: Curve, settings: Settings) -> Finding | None:
    """A loss level above both 2 times and 2 nats more than the level at the start (error).

    A level is the low median (the fourth lowest) of 8 steps: of the first 8 and of the last 8, which may overlap.
    Medians, because one batch of odd samples must not end a trial, and because a trial that blows up as early as its
    fifth step must not raise the level that it is judged by. The loss must be high for 5 of the last 8 steps, so the
    rule speaks four steps after the blow-up and at the ninth step at the earliest; of a trial that blows up before its
    fifth step it may say nothing. The thresholds are ours: a diverged decoder goes towards the loss of guessing
    (ln 49,152 = 10.8 nats for a vocabulary of 49,152 entries) from a start of 1 to 3 nats.
    """
    if len(curve.first_losses) < WINDOW_STEPS:
        return None
    start, level = median_low(curve.first_losses), median_low(curve.last_losses)
    threshold = max(DIVERGED_RATIO * start, start + DIVERGED_NATS)
    if level <= threshold:
        return None
    evidence: dict[str, float | str] = {
        "start_loss": start,
        "loss_level": level,
        "threshold": threshold,
        "window_steps": WINDOW_STEPS,
        "lr": curve.lr,
    }
    advice = _lower_lr_advice(settings)
    return Finding(rule="divergence", severity="error", step=curve.step, evidence=evidence, advice=advice)


Rule = Callable[[Curve, Settings], Finding | None]

RULES: dict[str, Rule] = {"non_finite": non_finite, "divergence": divergence}


class CurveWatch:
    """Reads a trial's loss curve step by step and says what it sees, each rule once.

    Args:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold of the gradient's L2 norm; 0 means no clipping.
    """

    def __init__(self, schedule: LRSchedule, max_grad_norm: float) -> None:
        self._settings = Settings(schedule, max_grad_norm)
        self._curve = Curve()
        self._reported: list[str] = []

    def update(self, step: int, loss: float, grad_norm: float, lr: float) -> list[Finding]:
        """Takes in one step and returns what is new.

        Args:
            step: Optimiser steps done, this one included: 1 for the first. Ascending from call to call.
            loss: Mean loss over the step's label tokens, in nats a token.
            grad_norm: Total L2 norm of the step's gradient before clipping.
            lr: LR of the step's update.

        Raises:
            ValueError: The step does not come after the one before.
        """
        if step <= self._curve.step:
            raise ValueError(f"steps must ascend, got {step} after {self._curve.step}")
        self._curve.add(step, loss, grad_norm, lr)
        findings = []
        for name, rule in RULES.items():
            if name in self._reported:
                continue
            finding = rule(self._curve, self._settings)
            if finding is not None:
                self._reported.append(name)
                findings.append(finding)
        return findings

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial needs to go on as if it had never stopped, in plain JSON types."""
        curve = asdict(self._curve)
        for name in ("loss", "grad_norm"):
            curve[name] = _json_number(curve[name])
        return {"curve": curve, "reported": list(self._reported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned.

        Raises:
            KeyError: A part is missing.
            TypeError: A part is unknown.
        """
        curve: dict[str, Any] = copy.deepcopy(state["curve"])
        for name in ("loss", "grad_norm"):
            curve[name] = float(curve[name])
        self._curve = Curve(**curve)
        self._reported = list(state["reported"])


def _lower_lr_advice(settings: Settings) -> str:
    half = settings.schedule.peak_lr / 2.0
    advice = f"lower space.peak_lr: try peak_lr {half:.1e} (half of this trial's)"
    if settings.max_grad_norm == 0.0:
        advice += "; clip gradients: try training.max_grad_norm 1.0 (this trial did not clip)"
    return advice


def _json_number(value: float) -> float | str:
    """The value, or its name ("nan", "inf", "-inf") where JSON has no number for it."""
    return value if math.isfinite(value) else str(float(value))
