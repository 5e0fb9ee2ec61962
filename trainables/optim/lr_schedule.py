"""The learning rate of every step of one epoch: warm-up, hold, decay to a floor.

Steps are numbered 0 to N - 1; a step's LR is the one of its update. With W warm-up steps:

- warm-up: lr(s) = peak * (s + 1) / W for s < W: no step runs at LR 0 and step W - 1 is at the peak. W = 0 and W = 1 are
the same schedule.
- decay: progress p = (s - W + 1) / (N - W) from 0 at the last warm-up step to 1 at the last step of the epoch.
- the last step is exactly at the floor, for every shape. A one-step epoch is that last step.

`transformers.get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup` start at LR 0 and would end one
step after the last: for W >= 1 and a floor of 0, lr(s) here is their LR at step s + 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.config.hyperparameters import SCHEDULE_PARAMS, idle
from trainables.config.sections import Params, ScheduleConfig
from trainables.errors import UserError

MOST_FLOOR_OF_PEAK = 0.8  # highest floor as a fraction of the peak; above it the LR would hardly decline
AT_PEAK = 0.8  # a step after warm-up is "at peak" while its LR is at least this fraction of the peak

Phase = Literal["warmup", "peak", "decay"]


@dataclass(frozen=True)
class LRSchedule:
    """LR by step, for one epoch.

    Attributes:
        peak_lr: Highest LR, above 0.
        floor_lr: LR of the last step, 0 to `peak_lr`; an LR, not a ratio.
        steps: Optimizer steps of the epoch (N), at least 1.
        warmup_steps: Steps of linear warm-up (W), 0 to `steps` - 1.
        shape: "linear" and "cosine" decay from the end of the warm-up; "step" is piecewise constant; "wsd" (warm-up,
            stable, decay) holds the peak and then decays linearly.
        step_at: For "step": ascending fractions of the whole epoch, not empty. After the k-th of n the LR is peak *
            (floor / peak) ** (k / n). A fraction inside the warm-up takes effect at its end.
        decay_fraction: For "wsd": length of the final decay as a fraction of the epoch.

    Raises:
        UserError: An LR or a number of steps is out of range, the floor is 0 for the shape "step", or warm-up and decay
            do not fit into the epoch.
    """

    peak_lr: float
    floor_lr: float
    steps: int
    warmup_steps: int
    shape: Literal["linear", "cosine", "step", "wsd"] = "linear"
    step_at: tuple[float, ...] = (0.5, 0.75)
    decay_fraction: float = 0.2

    def __post_init__(self) -> None:
        _check_rates(self)
        _check_lengths(self)

    def __call__(self, step: int) -> float:
        return self.lr(step)

    def lr(self, step: int) -> float:
        """The LR of a step, 0 to `steps` - 1.

        Raises:
            ValueError: The epoch has no such step.
        """
        if not 0 <= step < self.steps:
            raise ValueError(f"step must be in 0 to {self.steps - 1}, got {step}")
        # Before the formulas, whose rounding would miss the floor by a bit.
        if step == self.steps - 1:
            return self.floor_lr
        if step <= self._peak_step:
            # Ratio first: it is exactly 1.0 at the peak, and the LR exactly `peak_lr`.
            return self.peak_lr * ((step + 1) / (self._peak_step + 1))
        if self.shape == "step":
            return self._stepped(step)
        if self.shape == "wsd":
            return self._linear_from(self._last_stable_step, step)
        if self.shape == "linear":
            return self._linear_from(self._peak_step, step)
        return self._cosine_from(self._peak_step, step)

    def phase(self, step: int) -> Phase:
        """The phase of a step: "warmup", then "peak" (LR at least 0.8 of the peak), then "decay".

        Raises:
            ValueError: The epoch has no such step.
        """
        lr = self.lr(step)
        if step < self.warmup_steps:
            return "warmup"
        return "peak" if lr >= AT_PEAK * self.peak_lr else "decay"

    @property
    def _peak_step(self) -> int:
        return max(self.warmup_steps - 1, 0)

    @property
    def _last_stable_step(self) -> int:
        return max(self.steps - self._decay_steps - 1, self._peak_step)

    @property
    def _decay_steps(self) -> int:
        return round(self.decay_fraction * self.steps)

    def _linear_from(self, start: int, step: int) -> float:
        if step <= start:
            return self.peak_lr
        progress = (step - start) / (self.steps - 1 - start)
        return self.floor_lr + (self.peak_lr - self.floor_lr) * (1.0 - progress)

    def _cosine_from(self, start: int, step: int) -> float:
        progress = (step - start) / (self.steps - 1 - start)
        return self.floor_lr + (self.peak_lr - self.floor_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def _stepped(self, step: int) -> float:
        passed = sum(step >= fraction * self.steps for fraction in self.step_at)
        if passed == len(self.step_at):
            return self.floor_lr
        return self.peak_lr * (self.floor_lr / self.peak_lr) ** (passed / len(self.step_at))


def make_schedule(params: Params, config: ScheduleConfig, steps: int) -> LRSchedule:
    """Make a trial's LR schedule, with round(warmup_fraction * steps) warm-up steps.

    Args:
        params: The trial's final hyper-parameters; reads `peak_lr`, `decay_floor` (an LR) and `warmup_fraction` (0 to
            below 1, of the epoch's steps).
        config: The shape and its settings.
        steps: Optimizer steps of the epoch, at least 1.

    Raises:
        UserError: A hyper-parameter is missing or out of range, or warm-up and decay do not fit into the epoch.
    """
    for name in SCHEDULE_PARAMS:
        if name not in params:
            raise UserError(f"space.{name}", "must be given for every trial", "nothing", "add a range or a number")
    warmup_fraction = params["warmup_fraction"]
    if not 0.0 <= warmup_fraction < 1.0:
        raise UserError("space.warmup_fraction", "must be in 0 to below 1", warmup_fraction, "0.03 to 0.10 is usual")
    return LRSchedule(
        peak_lr=params["peak_lr"],
        floor_lr=params["decay_floor"],
        steps=steps,
        warmup_steps=round(warmup_fraction * steps),
        shape=config.shape,
        step_at=tuple(config.step_at),
        decay_fraction=config.decay_fraction,
    )


def cap_floor(params: Params) -> tuple[Params, Params | None]:
    """Cap a drawn floor at 0.8 * peak.

    Args:
        params: Hyper-parameters as drawn, left unchanged; reads `peak_lr` and `decay_floor`.

    Returns:
        The hyper-parameters to use, and {"decay_floor": the drawn value} where it was adjusted, else None.
    """
    # Peak and floor are drawn independently, and the recommended ranges meet: the LR would then not decline.
    highest = MOST_FLOOR_OF_PEAK * params["peak_lr"]
    drawn = params["decay_floor"]
    if drawn <= highest:
        return dict(params), None
    return {**params, "decay_floor": highest}, {"decay_floor": drawn}


def as_used(params: Params) -> tuple[Params, Params | None]:
    """Hyper-parameters as a trial uses them: the floor capped, and without those that do nothing in this trial.

    Returns:
        The hyper-parameters to use, and the drawn values of those that were changed or left out, else None.
    """
    used, capped = cap_floor(params)
    unused = {name: used.pop(name) for name in idle(params)}
    return used, {**(capped or {}), **unused} or None


def _check_rates(schedule: LRSchedule) -> None:
    peak, floor = schedule.peak_lr, schedule.floor_lr
    if not 0.0 < peak < math.inf:
        raise UserError("space.peak_lr", "must be above 0 and finite", peak, "see the recommended bounds")
    if not 0.0 <= floor <= peak:
        raise UserError(
            "space.decay_floor",
            "must be in 0 to peak_lr (it is an LR, not a ratio)",
            f"decay_floor={floor:g} peak_lr={peak:g}",
            "lower decay_floor or raise peak_lr",
        )
    if schedule.shape == "step" and floor == 0.0:
        raise UserError(
            "space.decay_floor",
            "must be above 0 for the shape step, which falls by equal factors",
            floor,
            "set a floor or choose another training.schedule.shape",
        )


def _check_lengths(schedule: LRSchedule) -> None:
    steps, warmup, decay = schedule.steps, schedule.warmup_steps, schedule._decay_steps
    if steps < 1:
        raise UserError("data.train", "an epoch must have at least one step", steps, "add samples")
    if not 0 <= warmup < steps:
        raise UserError(
            "space.warmup_fraction",
            "warm-up must end before the last step, which is at the floor",
            f"{warmup} warm-up steps of {steps}",
            "lower warmup_fraction",
        )
    # Warm-up and decay are rounded to whole steps separately; fractions that just fit may overlap by one step.
    if schedule.shape == "wsd" and warmup + decay > steps + 1:
        raise UserError(
            "training.schedule.decay_fraction",
            "warm-up and decay must fit into the epoch",
            f"{warmup} warm-up and {decay} decay steps of {steps}",
            "lower decay_fraction or warmup_fraction",
        )
