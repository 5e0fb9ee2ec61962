"""Read a trial's loss curve step by step.

A rule is a function from the curve so far to a finding or None. It runs at every step and fires once a trial. To add
one, write the function and enter it in `RULES`; its state between steps belongs in `Curve`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """Runs the rules on a trial's loss curve, step by step; each rule fires once.

    Args:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold of the gradient's L2 norm; 0 means no clipping.
        base_level: The base model's mean loss over the training set, in nats a token; None if not computed.

    Attributes:
        settings: The arguments, in the form that rules take.
    """

    def __init__(self, schedule: LRSchedule, max_grad_norm: float, base_level: float | None = None) -> None:
        self.settings = Settings(schedule, max_grad_norm, base_level)
        self._curve = Curve()
        self._reported: set[str] = set()

    def update(
        self,
        step: int,
        loss: float,
        grad_norm: float,
        lr: float,
        item_nll: Sequence[float] | None = None,
        item_base_nll: Sequence[float] | None = None,
    ) -> list[Finding]:
        """Add one step and return the new findings.

        Args:
            step: Optimizer steps done, this one included: 1 for the first. Ascending from call to call.
            loss: Mean loss over the step's label tokens, in nats a token.
            grad_norm: Total L2 norm of the step's gradient before clipping.
            lr: LR of the step's update.
            item_nll: Each sample's mean loss; None if only the step's is known, which then counts as one sample.
            item_base_nll: The base model's on the same samples, in parallel; None if not computed.

        Raises:
            ValueError: The step does not come after the one before.
        """
        if step <= self._curve.step:
            raise ValueError(f"steps must ascend, got {step} after {self._curve.step}")
        items = [loss] if item_nll is None else item_nll
        self._curve.add(self.settings, step, loss, grad_norm, lr, items, item_base_nll)
        silent = [rule for name, rule in RULES.items() if name not in self._reported]
        findings = [finding for rule in silent if (finding := rule(self._curve, self.settings))]
        self._reported |= {finding["rule"] for finding in findings}
        return findings

    def training_fall(self, from_step: int, to_step: int) -> Difference | None:
        """Fall of the training loss between two steps of the curve; see `convergence.training_fall`."""
        return training_fall(self._curve, self.settings, from_step, to_step)
