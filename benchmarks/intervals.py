"""95 % intervals for the benchmarks' figures: Wilson's for proportions, a percentile bootstrap for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000

Figure = dict[str, float]


def proportion(found: int, of: int) -> dict[str, Any] | None:
    """A proportion with Wilson's interval (JASA 22, 1927); None of nothing."""
    if of == 0:
        return None
    low, high = stats.binomtest(found, of).proportion_ci(method="wilson")
    return {"value": round(found / of, 4), "interval": [round(low, 4), round(high, 4)], "found": found, "of": of}


def ratio_of_means(ours: np.ndarray, other: np.ndarray, clusters: Sequence[str]) -> Figure:
    """Ratio of two paired means with its interval over resampled clusters."""
    return bootstrap("ratio", _ratio_of_sums, *_sums(clusters, ours, other))


def coverage(intervals: Sequence[Sequence[bool]]) -> Figure | None:
    """Share of intervals that hold the truth, with its interval; None without intervals.

    `intervals` tells, for each replay, whether each of its intervals holds the truth.
    """
    # The intervals of one replay share their draws of noise: a replay is resampled as a whole.
    counts = np.array([[sum(of_replay), len(of_replay)] for of_replay in intervals if of_replay], float)
    return bootstrap("value", _ratio_of_sums, *counts.T) if len(counts) else None


def clustered(values: np.ndarray, clusters: Sequence[str]) -> Figure:
    """A mean with its interval over resampled clusters."""
    return bootstrap("mean", _ratio_of_sums, *_sums(clusters, values, np.ones(len(values))))


def bootstrap(name: str, statistic: Callable[..., Any], *columns: np.ndarray) -> Figure:
    """A statistic with its percentile interval over resampled rows.

    Args:
        name: Key of the statistic in the result.
        statistic: Takes the columns and `axis`.
        columns: Arrays of one length, resampled together.
    """
    value = float(statistic(*columns, axis=-1))
    low, high = value, value
    if len(columns[0]) > 1:  # scipy refuses a single row, whose every resample is that row
        low, high = stats.bootstrap(
            columns, statistic, paired=True, n_resamples=RESAMPLES, method="percentile", rng=0
        ).confidence_interval
    return {name: round(value, 4), "lower": round(float(low), 4), "upper": round(float(high), 4)}


def _sums(clusters: Sequence[str], *columns: np.ndarray) -> list[np.ndarray]:
    index = np.unique(np.array(clusters), return_inverse=True)[1]
    return [np.bincount(index, column) for column in columns]


def _ratio_of_sums(top: np.ndarray, bottom: np.ndarray, axis: int) -> np.ndarray:
    return top.sum(axis=axis) / bottom.sum(axis=axis)
