"""PURE. A paired cluster bootstrap of the held-out objective.

The objective is the weighted mean over areas of the items' mean NLL. Whole clusters of items (items that share a
context are not independent) are resampled with replacement within each area. Every checkpoint sees the same resamples,
so differences between checkpoints are paired item by item. The intervals don't cover another training seed
(`analysis.stats.seed_variance`).

Sources: Efron & Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 (percentile interval); Davison & Hinkley,
Bootstrap Methods and their Application (1997), §3.2 (strata) and §3.8 (clusters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
# Ours: where the leaderboard begins to say that intervals are too narrow. With C clusters, percentile intervals are so
# by √(1 − 1/C) and the tails of t against the normal: of 95 % intervals about 90 % hold with C = 10, 93 % with 20.
FEW_CLUSTERS = 20


@dataclass(frozen=True)
class Design:
    """The area and cluster of each held-out item, in the order of the NLL matrices' rows."""

    areas: tuple[str, ...]  # names of the areas, sorted
    weights: Array  # (areas,) shares of the areas in the objective; they sum to 1
    area_of: NDArray[np.intp]  # (items,) index of each item's area
    cluster_of: NDArray[np.intp]  # (items,) index of each item's cluster within its area, from 0
    clusters: tuple[int, ...]  # number of clusters in each area


def make_design(areas: Sequence[str], groups: Sequence[str], weights: Mapping[str, float]) -> Design:
    """Lays out the items' areas and clusters.

    Args:
        areas: Each item's area.
        groups: Each item's cluster; the same name in two areas means two clusters.
        weights: Weight of each area, above 0; only their ratios count.

    Raises:
        ValueError: Lengths differ, a weight is not above 0, an area has no items, or an item's area has no weight.
    """
    names = tuple(sorted(weights))
    if len(areas) != len(groups):
        raise ValueError(f"areas and groups must be of one length, got {len(areas)} and {len(groups)}")
    if set(areas) != set(names):
        raise ValueError(f"areas with items and areas with weights must agree, got {sorted(set(areas) ^ set(names))}")
    share = np.array([weights[name] for name in names], dtype=float)
    if not np.all((share > 0) & np.isfinite(share)):
        raise ValueError(f"weights must be above 0 and finite, got {dict(weights)}")
    area_of = np.searchsorted(names, areas)
    cluster_of, counts = np.zeros(len(areas), dtype=np.intp), []
    for index in range(len(names)):
        members = area_of == index
        clusters, cluster_of[members] = np.unique(np.asarray(groups)[members], return_inverse=True)
        counts.append(len(clusters))
    return Design(names, share / share.sum(), area_of, cluster_of, tuple(counts))


def area_means(design: Design, nll: Array) -> Array:
    """Mean NLL of each area's items: (items, checkpoints) to (areas, checkpoints), nats a token.

    A NaN reaches only its own checkpoint.
    """
    return np.stack([nll[design.area_of == index].mean(axis=0) for index in range(len(design.areas))])


def objective(design: Design, nll: Array) -> Array:
    """Weighted mean over areas of the items' mean NLL: (items, checkpoints) to (checkpoints,), nats a token."""
    return np.sum(design.weights[:, None] * area_means(design, nll), axis=0)


class Bootstrap:
    """Resamples of one design, drawn once and applied to every checkpoint.

    Args:
        design: The items' areas and clusters.
        resamples: Number of resamples, 2 and up.
        seed: Seed of the draws. The same seed and design give the same draws, so that calls stay paired.
    """

    def __init__(self, design: Design, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if resamples < 2:
            raise ValueError(f"resamples must be at least 2, got {resamples}")
        self.design = design
        self.resamples = resamples
        # C clusters out of C with replacement are multinomial counts. The resampled mean of an area is then
        # (counts @ cluster sums) / (counts @ cluster sizes): two matrix products for all checkpoints together.
        generators = [np.random.default_rng([seed, index]) for index in range(len(design.areas))]
        self._counts = [
            generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(float)
            for generator, clusters in zip(generators, design.clusters, strict=True)
        ]

    def area_mean(self, index: int, nll: Array) -> Array:
        """Resampled mean NLL of one area of `design.areas`: (items of all areas, checkpoints) to (resamples, …).

        All NaN for an area of one cluster, which says nothing about its own spread.
        """
        return self._mean(index, nll, self._counts[index])

    def _mean(self, index: int, nll: Array, counts: Array) -> Array:
        """Means of an area in which clusters count (resamples, clusters) times; NaN where none does."""
        if self.design.clusters[index] < 2:
            return np.full((self.resamples, nll.shape[1]), np.nan)
        members = self.design.area_of == index
        clusters = self.design.cluster_of[members]
        sums = np.zeros((self.design.clusters[index], nll.shape[1]))
        np.add.at(sums, clusters, nll[members])
        sizes = np.bincount(clusters, minlength=self.design.clusters[index]).astype(float)
        drawn = counts @ sizes
        return (counts @ sums) / np.where(drawn > 0, drawn, np.nan)[:, None]

    def objective(self, nll: Array) -> Array:
        """Resampled objective: (items, checkpoints) to (resamples, checkpoints); see `area_mean` for NaN."""
        return self._objective(nll, self._counts)

    def out_of_bag(self, nll: Array) -> Array:
        """Objective over the clusters that a resample left out (about 37 %): (items, checkpoints) to (resamples, …).

        All NaN for a resample that drew every cluster of some area, which happens only with few clusters.
        """
        return self._objective(nll, [(counts == 0).astype(float) for counts in self._counts])

    def _objective(self, nll: Array, counts: Sequence[Array]) -> Array:
        total = np.zeros((self.resamples, nll.shape[1]))
        for index, weight in enumerate(self.design.weights):
            total += weight * self._mean(index, nll, counts[index])
        return total


def percentile_interval(samples: Array, level: float = LEVEL) -> Array:
    """Equal-tailed percentile interval of bootstrap samples: (resamples, …) to (2, …), low and high.

    NaN where a sample is NaN. `level` is the coverage aimed at, between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    tail = (1 - level) / 2
    return np.asarray(np.quantile(samples, [tail, 1 - tail], axis=0))
