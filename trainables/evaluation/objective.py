"""The number that a sweep minimizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def objective(areas: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> float:
    """Average the areas' `nll` by weight, in nats a token; not finite if an area's `nll` is not.

    Args:
        areas: Summaries by area; every area that has a weight must be there.
        weights: Weight above 0 of each area that selects. Areas without a weight don't count.

    Raises:
        KeyError: An area with a weight has no summary.
    """
    total = sum(weights.values())
    return sum(weight * areas[name]["nll"] for name, weight in weights.items()) / total


def objectives_by_step(record: Mapping[str, Any], weights: Mapping[str, float]) -> dict[int, float]:
    """The objective at each checkpoint of a trial's record, in nats a token."""
    return {point["step"]: objective(point["areas"], weights) for point in record["checkpoints"]}
