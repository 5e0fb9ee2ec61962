"""Reads a trial's loss curve step by step.

A rule is a function from the curve so far to a finding or None; it is told of every step and reports once a trial. To
add one, write the function and enter it in `RULES`; what it must remember between steps belongs in `Curve`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainables.diagnostics.convergence import barely_moving, nothing_gained_below, still_falling, training_fall
from trainables.diagnostics.curve_state import Curve
from trainables.diagnostics.finding import Finding, Settings
from trainables.diagnostics.running_stats import Difference
from trainables.diagnostics.stability import (
    divergence,
    grad_norm_growing,
    mostly_clipped,
    non_finite,
    warmup_spike,
    worse_than_base,
)
from trainables.diagnostics.steady_rise import steady_rise
from trainables.optim.lr_schedule import LRSchedule

Rule = Callable[[Curve, Settings], Finding | None]

RULES: dict[str, Rule] = {
    "non_finite": non_finite,
    "divergence": divergence,
    "worse_than_base": worse_than_base,
    "warmup_spike": warmup_spike,
    "steady_rise": steady_rise,
    "grad_norm_growing": grad_norm_growing,
    "barely_moving": barely_moving,
    "still_falling": still_falling,
    "nothing_gained_below": nothing_gained_below,
    "mostly_clipped": mostly_clipped,
}


class CurveMonitor:
    """Reads a trial's loss curve step by step and says what it sees, each rule once.

    Args:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold of the gradient's L2 norm; 0 means no clipping.
        base_level: The base model's mean loss over the training set, in nats a token; None where it was not computed.

    Attributes:
        settings: The arguments, as the rules are given them.
    """

    def __init__(self, schedule: LRSchedule, max_grad_norm: float, base_level: float | None = None) -> None:
        self.settings = Settings(schedule, max_grad_norm, base_level)
        self._curve = Curve()
        self._reported: list[str] = []

    def update(
        self,
        step: int,
        loss: float,
        grad_norm: float,
        lr: float,
        item_nll: Sequence[float] | None = None,
        item_base_nll: Sequence[float] | None = None,
    ) -> list[Finding]:
        """Takes in one step and returns what is new.

        Args:
            step: Optimizer steps done, this one included: 1 for the first. Ascending from call to call.
            loss: Mean loss over the step's label tokens, in nats a token.
            grad_norm: Total L2 norm of the step's gradient before clipping.
            lr: LR of the step's update.
            item_nll: Each sample's own mean loss; None where only the step's is known, which then counts as one.
            item_base_nll: The base model's on the same samples, in parallel; None where it was not computed.

        Raises:
            ValueError: The step does not come after the one before.
        """
        if step <= self._curve.step:
            raise ValueError(f"steps must ascend, got {step} after {self._curve.step}")
        items = [loss] if item_nll is None else item_nll
        self._curve.add(self.settings, step, loss, grad_norm, lr, items, item_base_nll)
        findings = []
        for name, rule in RULES.items():
            if name in self._reported:
                continue
            finding = rule(self._curve, self.settings)
            if finding is not None:
                self._reported.append(name)
                findings.append(finding)
        return findings

    def training_fall(self, from_step: int, to_step: int) -> Difference | None:
        """How much the training loss fell between two steps that were seen; see `progress.training_fall`."""
        return training_fall(self._curve, self.settings, from_step, to_step)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial needs to go on as if it had never stopped, in plain JSON types."""
        return {"curve": self._curve.state_dict(), "reported": list(self._reported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned.

        Raises:
            KeyError: A part is missing.
            TypeError: A part is unknown.
        """
        self._curve = Curve.from_state(state["curve"])
        self._reported = list(state["reported"])
