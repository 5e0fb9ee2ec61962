"""PURE. Paired comparisons of shares where the two sides disagree on few clusters of items.

Of two checkpoints' right and wrong answers only the clusters count on which they disagree. Where these are few, a
resample often holds none of them: the bootstrap's percentile interval is too narrow, and empty where there are none.

Sources: the test flips the sign of each cluster's difference, all ways equally likely if the two are equally good
(Fisher, The Design of Experiments, 1935, §21); with single 0/1 items it is McNemar's exact test. The standard error is
that of Bonett & Price (Biometrical Journal 54, 2012), who add one item in favor of each side; ours: for clusters and
weighted areas the added ones have the clusters' root mean square size, and the difference is left where it is.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.stats.bootstrap import Array, Design

FEW = 25  # clusters that disagree; from here on the bootstrap holds (ours, as often for the normal form of McNemar's)


def cluster_parts(design: Design, differences: Array) -> tuple[Array, Array]:
    """Splits a weighted mean of the items' differences (items,) into what each cluster contributes.

    Returns:
        (clusters,) contributions, which add up to the mean, and (clusters,) the most that each could contribute.
    """
    sums, sizes = [], []
    for index, weight in enumerate(design.weights):
        members = design.area_of == index
        clusters, number = design.cluster_of[members], design.clusters[index]
        share = weight / members.sum()
        sums.append(share * np.bincount(clusters, differences[members], number))
        sizes.append(share * np.bincount(clusters, minlength=number))
    return np.concatenate(sums), np.concatenate(sizes)


def few_disagree(parts: Array) -> bool:
    """Whether so few clusters' contributions differ from 0 that the bootstrap says too little."""
    return int(np.count_nonzero(np.abs(parts) > 1e-12)) < FEW


def rare_error(parts: Array, sizes: Array) -> float:
    """Standard error of the sum of `parts`, above 0 even where no cluster disagrees; see the module."""
    return math.sqrt(float(parts @ parts) + 2 * float(np.mean(sizes**2)))


def rare_mean_error(design: Design, differences: Array) -> float | None:
    """Standard error of the mean of (items,) differences; None where so many disagree that the bootstrap holds."""
    parts, sizes = cluster_parts(design, differences)
    return rare_error(parts, sizes) if few_disagree(parts) else None


def sign_flip_p(parts: Array) -> float:
    """Exact two-sided p-value of the sum of `parts`, over all flips of their signs.

    Raises:
        ValueError: `FEW` parts or more differ from 0.
    """
    parts = parts[np.abs(parts) > 1e-12]
    if len(parts) >= FEW:
        raise ValueError(f"takes fewer than {FEW} clusters that disagree, got {len(parts)}")
    # All sums of either half, 4,096 at the most; of each, how many of the other's take the total that far.
    first, second = _flipped(parts[::2]), np.sort(_flipped(parts[1::2]))
    least = abs(float(parts.sum())) - 1e-9
    above = len(second) - np.searchsorted(second, least - first, side="left")
    below = np.searchsorted(second, -least - first, side="right")
    return min(1.0, float((above + below).sum()) / (len(first) * len(second)))


def _flipped(parts: Array) -> Array:
    sums = np.zeros(1)
    for part in parts:
        sums = np.concatenate([sums + part, sums - part])
    return sums
