"""Intervals for the benchmarks' figures: Wilson, bootstrap, clustered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest


def proportion(found: int, of: int) -> dict[str, Any] | None:
    """A proportion with Wilson's 95 % interval; None of nothing."""
    if of == 0:
        return None
    low, high = binomtest(found, of).proportion_ci(method="wilson")
    return {"value": round(found / of, 4), "interval": [round(low, 4), round(high, 4)], "found": found, "of": of}


RESAMPLES = 4000


def ratio_of_means(ours: np.ndarray, other: np.ndarray, clusters: Sequence[str]) -> dict[str, float]:
    """Ratio of two means with its 95 % interval: percentiles of a paired bootstrap over clusters."""
    names, index = np.unique(np.array(clusters), return_inverse=True)
    sums = np.stack([np.bincount(index, values, len(names)) for values in (ours, other)])  # (2, clusters)
    draw = np.random.default_rng(0)
    times = draw.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=RESAMPLES)
    resampled = times @ sums.T  # (resamples, 2)
    lower, upper = np.quantile(resampled[:, 0] / resampled[:, 1], [0.025, 0.975])
    found = {"ratio": sums[0].sum() / sums[1].sum(), "lower": lower, "upper": upper}
    return {name: round(float(value), 3) for name, value in found.items()}


RESAMPLES = 2000


NORMAL_975 = 1.959964


Figure = dict[str, float]


def wilson(hits: Sequence[bool]) -> Figure:
    """A share with its 95 % interval (Wilson, JASA 22 (1927))."""
    n, share, z = len(hits), float(np.mean(hits)), NORMAL_975
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"rate": rounded(share), "lower": rounded(centre - reach), "upper": rounded(centre + reach)}


def coverage(intervals: Sequence[Sequence[bool]]) -> Figure | None:
    """Share of intervals that hold the truth, with its own interval; those of one replay are resampled together."""
    counts = np.array([[sum(of_replay), len(of_replay)] for of_replay in intervals if of_replay], float)
    if not len(counts):
        return None
    return bootstrap(counts, lambda sums: sums[..., 0] / sums[..., 1], "rate")


def clustered(values: np.ndarray, clusters: Sequence[str]) -> Figure:
    """A mean with its interval, resampled by cluster."""
    names, index = np.unique(np.array(clusters), return_inverse=True)
    sums = np.stack([np.bincount(index, values, len(names)), np.bincount(index, minlength=len(names))], axis=1)
    return bootstrap(sums, lambda total: total[..., 0] / total[..., 1], "mean")


def bootstrap(rows: np.ndarray, of_sums: Callable[[np.ndarray], np.ndarray], name: str) -> Figure:
    """A function of the rows' sums with its 95 % percentile interval.

    Args:
        rows: (units, columns); units are resampled.
        of_sums: (…, columns) to (…,).
        name: Of the figure.
    """
    times = np.random.default_rng(0).multinomial(len(rows), np.full(len(rows), 1.0 / len(rows)), size=RESAMPLES)
    lower, upper = np.quantile(of_sums(times @ rows), [0.025, 0.975])
    return {name: rounded(of_sums(rows.sum(axis=0))), "lower": rounded(lower), "upper": rounded(upper)}


def rounded(value: float) -> float:
    """Short."""
    return round(float(value), 4)
