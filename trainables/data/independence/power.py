"""The smallest difference that a held-out area can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.95
CHANCE_OF_SHOWING = 0.8

ASSUMED_SD = 0.27
"""Standard deviation of an item's NLL difference between two trials, nats a token (ours: measured between trials of
one sweep of a 135M model)."""


@dataclass(frozen=True)
class Power:
    """What the size of an area allows.

    Attributes:
        clusters: Distinct contexts; items that share one count as one.
        smallest_nll_difference: Mean difference, nats a token, that a paired comparison of two checkpoints shows with
            95 % confidence in 80 of 100 cases. None below two contexts.
        assumption: Where the spread comes from, in words.
    """

    clusters: int
    smallest_nll_difference: float | None
    assumption: str


def assumed_power(clusters: int) -> Power:
    """The power of an area before any trial, from a spread that was measured elsewhere.

    That items of one context count as one is the careful end: it is exact where their differences are the same.
    """
    assumption = (
        f"{ASSUMED_SD} nats a token as standard deviation of an item's difference, as measured between trials of one "
        "sweep of a 135M model; items of one context counted as one"
    )
    smallest = _factor() * ASSUMED_SD / np.sqrt(clusters) if clusters > 1 else None
    return Power(clusters, None if smallest is None else float(smallest), assumption)


def measured_power(differences: Sequence[float], groups: Sequence[str]) -> Power:
    """The power of an area from the differences that two trials really have.

    The standard error of the mean is the cluster-robust one: sqrt(G / (G - 1) · Σ_g (Σ_i (d_i - mean))²) / n
    (Liang & Zeger 1986; Cameron & Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015, for a mean alone).

    Args:
        differences: NLL of one checkpoint minus that of the other for each item, nats a token.
        groups: Context of each item.

    Raises:
        ValueError: Lengths differ.
    """
    if len(differences) != len(groups):
        raise ValueError(f"differences and groups must be of one length, got {len(differences)} and {len(groups)}")
    names, group_of = np.unique(groups, return_inverse=True)
    clusters = len(names)
    assumption = "the spread of these differences, context by context"
    if clusters < 2:
        return Power(clusters, None, assumption)
    values = np.asarray(differences, dtype=float)
    sums = np.bincount(group_of, weights=values - values.mean(), minlength=clusters)
    error = np.sqrt(clusters / (clusters - 1) * np.sum(sums**2)) / len(values)
    return Power(clusters, float(_factor() * error), assumption)


def _factor() -> float:
    """z of the two-sided level plus z of the chance: 1.96 + 0.84."""
    return NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(CHANCE_OF_SHOWING)
