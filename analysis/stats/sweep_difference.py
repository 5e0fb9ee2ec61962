"""PURE. The difference of two sweeps' winners on the same held-out items, with an interval that covers seeds.

The two checkpoints are paired item by item, which cancels the items' difficulty; the rest is resampled by clusters.
Each winner is one training run, so the spread between seeds counts once for each. Without it a small difference would
pass for progress that the next seed takes back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.stats import bootstrap
from analysis.stats.seed_variance import JointError


@dataclass(frozen=True)
class Winner:
    """A sweep's winner, for a comparison."""

    values: Mapping[tuple[str, str], float]  # what decides on each item, lower is better, by area and id
    groups: Mapping[tuple[str, str], str]  # each item's cluster
    seed_sd: float | None  # standard deviation of its objective between seeds; None where unknown
    seed_df: float  # degrees of freedom of that


@dataclass(frozen=True)
class Difference:
    """The second winner's objective minus the first's: below 0 the second is better."""

    value: float
    low: float | None  # of the 95 % interval over items and seeds; None where seeds or an area's spread are unknown
    high: float | None
    areas: Mapping[str, float]  # difference of each area's mean
    items: int  # items compared

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not significantly different`: the second against the first."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "not significantly different"
        return "better" if self.high < 0 else "worse"


def difference(first: Winner, second: Winner, weights: Mapping[str, float]) -> Difference:
    """Compares the winners of an earlier and a later sweep, which have the same `weights` of areas.

    Raises:
        ValueError: They were scored on different items.
    """
    if first.values.keys() != second.values.keys():
        raise ValueError(f"{len(first.values.keys() ^ second.values.keys())} items were scored in one sweep only")
    keys = sorted(first.values)
    design = bootstrap.make_design([area for area, _ in keys], [first.groups[key] for key in keys], weights)
    differences = np.array([[second.values[key] - first.values[key]] for key in keys])
    value = float(bootstrap.objective(design, differences)[0])
    items = float(np.std(bootstrap.Bootstrap(design).objective(differences), ddof=1))
    means = bootstrap.area_means(design, differences)[:, 0]
    low, high = None, None
    if math.isfinite(items) and first.seed_sd is not None and second.seed_sd is not None:
        item_df = sum(clusters - 1 for clusters in design.clusters)
        seeds = math.hypot(first.seed_sd, second.seed_sd)
        # Both spreads get the lower of the two degrees of freedom: too wide, if anything.
        error = JointError(items, item_df, seeds, min(first.seed_df, second.seed_df))
        reach = error.reach((1 - bootstrap.LEVEL) / 2)
        low, high = value - reach, value + reach
    return Difference(value, low, high, dict(zip(design.areas, means.tolist(), strict=True)), len(keys))
