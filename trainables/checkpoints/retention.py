"""Which checkpoints of a running trial stay on the disk. Pure; `sweeps.driver.checkpoint_retention` decides on
trials that have ended."""

from __future__ import annotations

import math
from collections.abc import Mapping

CLOSE_NATS = 1e-9
"""Objectives as near as this are kept alike: the leaderboard computes them from items, in another order (ours)."""


def best_and_last(objectives: Mapping[int, float]) -> set[int]:
    """The steps whose checkpoints stay: the last one, and the best so far with those that equal it.

    Args:
        objectives: By step, nats a token, lower is better; at least one.
    """
    lowest = min((value for value in objectives.values() if math.isfinite(value)), default=math.nan)
    return {step for step, value in objectives.items() if value <= lowest + CLOSE_NATS or step == max(objectives)}
