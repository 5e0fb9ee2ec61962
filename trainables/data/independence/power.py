"""Statistical power: the smallest difference that a held-out area can show."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
CHANCE_OF_SHOWING = 0.8
# Ours: standard deviation of an item's NLL difference between two trials, in nats a token, measured between trials of
# one sweep of a 135M model.
ASSUMED_SD = 0.27


@dataclass(frozen=True)
class Power:
    """The power of an area of this size.

    Attributes:
        clusters: Distinct contexts; items that share one count as one.
        smallest_nll_difference: Mean difference, in nats a token, that a paired comparison of two checkpoints shows
            with 95 % confidence in 80 of 100 cases. None below two contexts.
        assumption: The source of the spread, in words.
    """

    clusters: int
    smallest_nll_difference: float | None
    assumption: str


def assumed_power(clusters: int) -> Power:
    """The power of an area before any trial, from a spread that was measured elsewhere."""
    # Counting the items of one context as one is conservative, and exact if their differences are equal.
    assumption = (
        f"{ASSUMED_SD} nats a token as standard deviation of an item's difference, as measured between trials of one "
        "sweep of a 135M model; items of one context counted as one"
    )
    # The two-sided level's quantile plus the chance's: 1.96 + 0.84 standard errors.
    errors = NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(CHANCE_OF_SHOWING)
    return Power(clusters, errors * ASSUMED_SD / clusters**0.5 if clusters > 1 else None, assumption)
