"""PURE. A sweep's objective over its settings as a Gaussian process; noise between trials may grow with the LR.

A trial's objective is the worth of its setting plus luck. Neighboring settings share worth, and trials under
different seeds share no luck, so a smooth surface through trials of several seeds tells the two apart. Under a single
seed luck is smooth too, and the model takes it for worth. The model of trial i:

    objective = mean + worth + noise,   worth ~ N(0, s² k),   noise ~ N(0, s² r (LR / geometric mean LR)^(2g))

k is a Matérn 5/2 kernel over decades of the LR, with a small share for the other hyper-parameters. The mean is
integrated out and s² profiled (REML: Patterson & Thompson, Biometrika 58, 1971; the posterior under a flat prior of the
mean: Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, section 2.7). Length scale, r and g are
averaged over a grid by their likelihood. At four trials naming a setting by it gained nothing over the lowest score.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from analysis.stats.bootstrap import Array

# The grid and the share are ours. The growths span what was measured between seeds: d ln sd / d ln LR of 0.3 to 1.0.
LENGTHS = (0.2, 0.4, 0.8, 1.6, 3.2)  # decades of the LR
NOISE_RATIOS = tuple(np.geomspace(1e-3, 30.0, 10).tolist())
GROWTHS = (0.0, 0.4, 0.8, 1.2)
OTHERS_SHARE = 0.05  # as full inputs, warm-up and floor halved what naming by the model gained on a recorded grid
SPENT_DF = 4  # mean, scale, length scale and noise ratio


@dataclass(frozen=True)
class ObjectiveModel:
    """Posterior of the worth of the settings of n trials, with the noise left out."""

    mean: Array  # (n,), nats a token
    covariance: Array  # (n, n), uncertainty of the hyper-parameters included
    weights: Array  # (n, n), rows sum to 1: `mean` is `weights @ values`, the hyper-parameters' likelihoods held fixed
    noise_sd: Array  # (n,), of a single trial's luck
    df: int  # degrees of freedom for t-intervals: trials less those spent on the model


def fit(decades: Array, others: Array, values: Array) -> ObjectiveModel | None:
    """Fits the model to trials.

    Args:
        decades: (n,), log10 of each trial's peak LR. Replicates are further trials at the same point.
        others: (n, d), the other hyper-parameters, each scaled to 0..1 of its searched range; d may be 0.
        values: (n,), objectives, nats a token.

    Returns:
        None for trials of four settings or fewer, which leave no degree of freedom.
    """
    if len(np.unique(np.column_stack([decades, others]), axis=0)) <= SPENT_DF:
        return None
    grid = [
        _posterior(kernel(decades, others, length), noise(decades, ratio, growth), values)
        for length, ratio, growth in itertools.product(LENGTHS, NOISE_RATIOS, GROWTHS)
    ]
    logs = np.array([one.log_likelihood for one in grid])
    share = np.exp(logs - logs.max())
    share /= share.sum()
    weights = np.tensordot(share, np.array([one.weights for one in grid]), axes=1)
    mean = weights @ values
    spread = np.array([one.weights @ values for one in grid]) - mean
    within = np.tensordot(share, np.array([one.covariance for one in grid]), axes=1)
    variances = share @ np.array([one.noise for one in grid])
    covariance = within + (share * spread.T) @ spread
    return ObjectiveModel(mean, covariance, weights, np.sqrt(variances), len(values) - SPENT_DF)


def kernel(decades: Array, others: Array, length: float) -> Array:
    """(n, n) correlations of the worth of settings: Matérn 5/2 of `length` decades, squared exponential of `others`."""
    scaled = np.sqrt(5.0) * np.abs(decades[:, None] - decades[None, :]) / length
    matern = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    other = np.exp(-0.5 * ((others[:, None, :] - others[None, :, :]) ** 2).sum(axis=-1))
    return (1 - OTHERS_SHARE) * matern + OTHERS_SHARE * other


def noise(decades: Array, ratio: float, growth: float) -> Array:
    """(n,) variances of luck relative to the worth's: `ratio` at the geometric mean LR, as LR^(2 `growth`)."""
    return ratio * 10.0 ** (2 * growth * (decades - decades.mean()))


@dataclass(frozen=True)
class _Posterior:
    log_likelihood: float  # restricted, up to a constant
    weights: Array
    covariance: Array
    noise: Array


def _posterior(signal: Array, luck: Array, values: Array) -> _Posterior:
    n = len(values)
    precision = np.linalg.inv(signal + np.diag(luck))
    total = precision.sum()
    # Subtracts the generalized least squares mean.
    center = np.eye(n) - precision.sum(axis=0) / total
    residual = precision @ center
    # Equal values leave no scale; the floor keeps the likelihood finite.
    quadratic = max(float(values @ residual @ values), np.finfo(float).tiny)
    scale = quadratic / (n - 1)
    log_det = -float(np.linalg.slogdet(precision)[1])
    smoother = signal @ precision
    gap = 1 - smoother.sum(axis=1)
    return _Posterior(
        log_likelihood=-0.5 * (log_det + float(np.log(total)) + (n - 1) * float(np.log(quadratic))),
        weights=np.eye(n) - center + smoother @ center,
        covariance=scale * (signal - smoother @ signal + np.outer(gap, gap) / total),
        noise=scale * luck,
    )
