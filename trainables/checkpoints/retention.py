"""Retention of a running trial's checkpoints. Pure; `sweeps.driver.checkpoint_retention` decides on ended trials."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Our tolerance: the leaderboard sums an objective from items, in another order.
CLOSE_NATS = 1e-9


def best_and_last(objectives: Mapping[int, float]) -> set[int]:
    """Steps whose checkpoints are kept: the last one, the best so far, and those that equal the best.

    Args:
        objectives: Objective by step, lower is better; NaN where it is not known; not empty.
    """
    lowest = min((value for value in objectives.values() if math.isfinite(value)), default=math.nan)
    return {step for step, value in objectives.items() if value <= lowest + CLOSE_NATS or step == max(objectives)}
