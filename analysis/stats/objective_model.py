"""PURE. The objective over the settings of a sweep, as a Gaussian process with noise between seeds.

A trial's score is the worth of its setting plus the luck of its seed. Settings with neighboring LRs are worth about the
same; trials under other seeds share no luck. So a smooth curve through trials of several seeds separates the two:

    score = mean + f(log10 LR, others) + noise,   f ~ GP(0, s² k),   noise ~ N(0, s² r (LR / geometric mean LR)^(2 g))

k is a Matérn 5/2 kernel over the decades of the LR, with a small share for the other hyper-parameters. The mean is
integrated out and s² is profiled; the length of k, the noise ratio r and its growth g are averaged over a grid, by
their restricted likelihood (REML). Under one seed a seed's luck is itself a smooth function of the LR, which no fit can
tell from worth: such a model may name a setting, and must not claim a difference.

Sources: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), sections 2.2, 2.7, 4.2; Patterson &
Thompson, Biometrika 58 (1971) (REML); Pearce, Poloczek & Branke, arXiv 1910.09259 (the luck of a seed as a smooth
function of the setting).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.stats.bootstrap import Array

# The grid, ours: lengths from a fraction of a usual search range (1.5 decades) to twice it; noise from none to nothing
# but noise; growth around what was measured, d ln sd / d ln LR = 0.3 to 0.8 between the seeds of four models.
LENGTHS = (0.2, 0.4, 0.8, 1.6, 3.2)  # decades of the LR
NOISE_RATIOS = tuple(np.geomspace(1e-3, 30.0, 10))
GROWTHS = (0.0, 0.4, 0.8, 1.2)
# Share of the other hyper-parameters in the kernel, ours. Given more, the model explains luck by warm-up and floor: on
# a grid of trained settings, naming by a model with equal shares gained half of what one over the LR alone did.
OTHERS_SHARE = 0.05
# Degrees of freedom that mean, scale, noise and length take.
SPENT_DF = 4
# What the model knows of: it shrinks all but the LR hard, which suits the rest of the schedule and nothing else.
MODELED = ("peak_lr", "warmup_fraction", "decay_floor")
# With fewer there is nothing to pool: naming by the model gained nothing at four trials. Ours.
LEAST_TRIALS, LEAST_LRS = 6, 5


@dataclass(frozen=True)
class ObjectiveModel:
    """What the trials say of the worth of their settings; `fit` gives a row a trial, equal ones for equal settings.

    Attributes:
        weights: (rows, trials), rows that sum to 1; `weights @ scores` is the posterior mean.
        mean: (rows,) posterior mean of the setting, nats a token.
        covariance: (rows, rows) its posterior covariance.
        noise_sd: (rows,) standard deviation of a single score of the setting between seeds.
        df: Degrees of freedom of the variances.
    """

    weights: Array
    mean: Array
    covariance: Array
    noise_sd: Array
    df: int

    def of(self, rows: Sequence[int]) -> ObjectiveModel:
        """The model of these rows alone."""
        covariance = self.covariance[np.ix_(rows, rows)]
        return ObjectiveModel(self.weights[rows], self.mean[rows], covariance, self.noise_sd[rows], self.df)

    def sd(self, row: int) -> float:
        """Posterior standard deviation of a setting's worth."""
        return math.sqrt(max(0.0, float(self.covariance[row, row])))

    def difference_sd(self, one: int, other: int) -> float:
        """Posterior standard deviation of the difference between two rows' settings."""
        c = self.covariance
        return math.sqrt(max(0.0, float(c[one, one] + c[other, other] - 2 * c[one, other])))


def fit_settings(settings: Sequence[Mapping[str, float | str]], scores: Array) -> ObjectiveModel | None:
    """Fits the model to trials by their hyper-parameters.

    Args:
        settings: (rows) hyper-parameters by search-space name: the trials', and any others to be predicted.
        scores: (trials,) objectives of the first rows, nats a token.

    Returns:
        None as `fit` does, and where more than the LR schedule differs between the trials, or an LR is not above 0.
    """
    if len(scores) < LEAST_TRIALS:
        return None
    varied = {name for one in settings for name in one if any(other.get(name) != one[name] for other in settings)}
    peaks = [float(one.get("peak_lr", 0)) for one in settings]
    if not varied <= {*MODELED} or not all(peak > 0 for peak in peaks):
        return None
    others = np.array([[float(one.get(name, 0.0)) for name in MODELED[1:]] for one in settings])
    width = np.ptp(others, axis=0)
    return fit(np.log10(peaks), (others - others.min(axis=0)) / np.where(width > 0, width, 1.0), scores)


def fit(decades: Array, others: Array, scores: Array) -> ObjectiveModel | None:
    """Fits the model.

    Args:
        decades: (rows,) log10 of each row's peak LR.
        others: (rows, hyper-parameters) the others, each scaled to 0 to 1.
        scores: (trials,) objectives of the first rows, nats a token; replicates are trials of equal settings. Rows
            beyond them are predicted.

    Returns:
        None with fewer trials than `LEAST_TRIALS` or fewer LRs than `LEAST_LRS`, or where all scores are equal.
    """
    trials = len(scores)
    if trials < LEAST_TRIALS or len(np.unique(decades[:trials])) < LEAST_LRS or np.ptp(scores) == 0:
        return None
    distances = np.abs(decades[:, None] - decades)
    squares = ((others[:, None, :] - others) ** 2).sum(axis=-1)
    shared, centered = OTHERS_SHARE * np.exp(-0.5 * squares), decades - decades[:trials].mean()
    # (noises, rows) variances in units of the scale, for all lengths alike
    noises = np.array(
        [ratio * 10 ** (2 * growth * centered) for ratio, growth in itertools.product(NOISE_RATIOS, GROWTHS)]
    )
    fits = [_fit_length((1 - OTHERS_SHARE) * matern52(distances / x) + shared, noises, scores) for x in LENGTHS]
    logs, all_weights, covariances, variances = (np.concatenate(parts) for parts in zip(*fits, strict=True))
    shares = np.exp(logs - logs.max())
    shares /= shares.sum()
    weights = np.tensordot(shares, all_weights, 1)
    mean = weights @ scores
    apart = all_weights @ scores - mean
    # The law of total covariance: within each point of the grid, and between them.
    covariance = np.tensordot(shares, covariances, 1) + (shares[:, None] * apart).T @ apart
    noise = np.sqrt(shares @ variances)
    return ObjectiveModel(weights, mean, covariance, noise, trials - SPENT_DF)


def matern52(distances: Array) -> Array:
    """The Matérn kernel with smoothness 5/2, of distances in units of its length."""
    scaled = math.sqrt(5.0) * distances
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _fit_length(kernel: Array, noises: Array, scores: Array) -> tuple[Array, Array, Array, Array]:
    """The posterior for one length and all noises of the grid, at once because a loop over them takes 20 times as long.

    Args:
        kernel: (rows, rows) in units of the scale s².
        noises: (noises, rows) variances in that unit.
        scores: (trials,) objectives of the first rows.

    Returns:
        For each noise: restricted log likelihood but for a constant, weights, covariance, variances of the noise.
    """
    trials = len(scores)
    total = kernel[:trials, :trials] + noises[:, :trials, None] * np.eye(trials)
    inverse = np.linalg.inv(total)
    sums = inverse.sum(axis=2)
    precision = sums.sum(axis=1)
    mean = sums / precision[:, None]  # generalized least squares: `mean @ scores` is the overall level
    residual = scores - (mean @ scores)[:, None]
    squares = np.einsum("hi,hi->h", residual, np.einsum("hij,hj->hi", inverse, residual))
    scale = squares / (trials - 1)
    log_determinant = np.linalg.slogdet(total).logabsdet
    logs = -0.5 * (log_determinant + np.log(precision) + (trials - 1) * np.log(squares))
    gain = kernel[:, :trials] @ inverse
    lack = 1 - gain.sum(axis=2)
    weights = gain + lack[:, :, None] * mean[:, None, :]
    missing = lack[:, :, None] * lack[:, None, :] / precision[:, None, None]
    covariance = scale[:, None, None] * (kernel - gain @ kernel[:trials] + missing)
    return logs, weights, covariance, scale[:, None] * noises
