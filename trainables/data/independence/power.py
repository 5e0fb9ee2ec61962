"""Statistical power: the smallest difference that a held-out area can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

LEVEL = 0.95
CHANCE_OF_SHOWING = 0.8
# Ours: standard deviation of an item's NLL difference between two trials, in nats a token, measured between trials of
# one sweep of a 135M model.
ASSUMED_SD = 0.27


# Ours: share of items on which just one of two trials answers rightly, measured between trials of one sweep of a 135M
# model.
ASSUMED_DISCORDANT = (0.12, 0.17)


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
        f"an item's difference has a standard deviation of {ASSUMED_SD}, as between trials of one sweep of a 135M "
        "model; items of one context counted as one"
    )
    return Power(clusters, _errors() * ASSUMED_SD / clusters**0.5 if clusters > 1 else None, assumption)


def smallest_share_difference(clusters: Mapping[str, int], weights: Mapping[str, float], discordant: float) -> float:
    """The smallest difference of two checkpoints' shares of right answers that areas together show.

    McNemar's test in its normal form, 95 % confidence, 80 of 100 cases; see Connor (Biometrics 43, 1987), with the
    variance under equality for both terms. Items of one context are counted as one (a design effect of their number).

    Args:
        clusters: Contexts by area, at least 1 each.
        weights: Weight of each area.
        discordant: Share of items on which just one of the two is right, above 0 to 1.

    Returns:
        A share; one above `discordant` can't be shown, because no difference is that large.
    """
    total = sum(weights.values())
    variance = sum((weight / total) ** 2 * discordant / clusters[name] for name, weight in weights.items())
    return _errors() * variance**0.5


def _errors() -> float:
    # The two-sided level's quantile plus the chance's: 1.96 + 0.84 standard errors.
    return NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(CHANCE_OF_SHOWING)
