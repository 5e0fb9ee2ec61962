"""Predicts what the rest of an epoch brings, from the trials that have finished. Pure; arrays may be batched.

Half way through, a trial with a high LR looks worse than it is: it earns its gain while the LR declines. Over finished
trials, the final objective is regressed on what was known of them at the same place in the epoch: running loss on the
same samples, mean LR, last held-out score. Least squares with an intercept is least squares over all pairs of trials:
each pair shows how a difference then became a difference at the end. Bounds are those of a new observation, so that
they cover the scatter of single trials, seeds included (Seber & Lee, Linear Regression Analysis, 2003, ch. 5.3).

A regression takes four finished trials. Before that, a gap is compared with what finished trials won in the rest of
their epoch (`out_of_reach`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

# Weight of the prior that a slope is 0, in observations a squared unit (ours): too small to shift a slope that the
# trials determine, and enough to predict nothing along a direction in which finished trials do not differ.
RIDGE = 1e-4
LEAST_DF = 2  # degrees of freedom; with one, bounds by Student's t are too wide to say anything
LEAST_LOSS = 1e-3  # added to running losses before their logarithm, nats a token (ours)
# A gap above so many late falls of a finished trial is never closed (ours; on the grid of the tiny model, with other
# seeds than the benchmark's, a factor of 1 already cost no choice).
REACH = 2.0


@dataclass(frozen=True)
class FinalPrediction:
    """The predicted final objective of a trial; arrays have the batch's shape.

    Attributes:
        final: Expected final objective, nats a token; NaN where nothing is predicted.
        sd: Standard deviation of a single trial around it: the regression's uncertainty and the scatter of trials.
        df: Degrees of freedom of `sd`.
        scatter: Standard deviation of single trials only.
        slopes: (…, features) change of the final objective for one unit of each feature.
        spread: (…, features, features) the slopes' covariance over `scatter` squared.
    """

    final: Array
    sd: Array
    df: Array
    scatter: Array
    slopes: Array
    spread: Array

    def lowest(self, level: float) -> Array:
        """Lower bound of the final objective, one-sided at `level`; NaN where nothing is predicted."""
        return self.final - _quantile(self.df, level) * self.sd

    def lowest_behind(self, other: Array, level: float) -> Array:
        """Lower bound of how far the trial will end behind another running one.

        Args:
            other: (…, features) of the other trial, less those of this one.
            level: One-sided.
        """
        # 2: both trials scatter. The intercept cancels, so only the slopes' covariance counts.
        gap = -np.sum(self.slopes * other, axis=-1)
        spread = np.sum(other * np.squeeze(self.spread @ other[..., None], -1), axis=-1)
        return gap - _quantile(self.df, level) * self.scatter * np.sqrt(2.0 + spread)


def predict_final(
    features: Array, finals: Array, finished: Array, own_noise: Array | float = 0.0, known: int | None = None
) -> FinalPrediction:
    """Regresses final objectives on features, and predicts the trial in question.

    Args:
        features: (…, trials, features) of each trial less those of the trial in question; see `features_of`.
        finals: (…, trials) final objectives, nats a token.
        finished: (…, trials) 1 for a trial to learn from, 0 for one to leave out (its numbers don't matter).
        own_noise: (…) standard error of the first feature, by the trial's own losses.
        known: How many of the features are known; by default all.
    """
    # Features are used from the first on, as many as leave `LEAST_DF` degrees of freedom: four finished trials
    # determine the slope of the running loss, seven all four features.
    width = features.shape[-1]
    trials = np.sum(finished > 0, axis=-1)
    taken = np.clip(trials - 1 - LEAST_DF, 1, width if known is None else known)
    df = np.where(trials - 1 - taken >= LEAST_DF, trials - 1 - taken, np.nan)
    is_taken = np.arange(width) < np.asarray(taken)[..., None]
    used = (finished > 0)[..., None]
    columns = np.where(used & is_taken[..., None, :], features, 0.0)
    design = np.concatenate([np.broadcast_to(used, (*columns.shape[:-1], 1)), columns], -1).astype(float)
    target = np.where(finished > 0, finals, 0.0)
    across = np.swapaxes(design, -1, -2)
    # A feature that is not taken up is a column of zeros, whose slope is 0 by the prior.
    prior = RIDGE * np.diag([0.0] + [1.0] * width)
    # Where there are too few trials the matrix may be singular, and the result is not used.
    safe = np.where(np.isnan(df)[..., None, None], np.eye(1 + width), across @ design + prior)
    inverse = np.linalg.inv(safe)
    solution = np.squeeze(inverse @ (across @ target[..., None]), -1)
    # Few trials can lie on a line by luck: the scatter is at least what the noise of the first feature makes of it.
    residual = target - np.squeeze(design @ solution[..., None], -1)
    scatter = np.sqrt(np.maximum(np.sum(residual**2, axis=-1) / df, (solution[..., 1] * own_noise) ** 2))
    return FinalPrediction(
        final=np.where(np.isnan(df), np.nan, solution[..., 0]),
        sd=scatter * np.sqrt(1.0 + inverse[..., 0, 0]),
        df=df,
        scatter=scatter,
        slopes=solution[..., 1:],
        spread=np.where(is_taken[..., None, :], inverse[..., 1:, 1:], 0.0),
    )


def features_of(running_loss: Array, lr_mass: Array, heldout: Array | None = None) -> list[Array]:
    """Features of trials at one place in the epoch: logarithms of the first two arguments, and the third as it is.

    Args:
        running_loss: Mean loss over the window, nats a token.
        lr_mass: Mean LR over the epoch's samples.
        heldout: Objective of the last checkpoint before, where all have one.
    """
    return [np.log(running_loss + LEAST_LOSS), np.log(lr_mass), *([] if heldout is None else [heldout])]


def relative_features(features: list[Array], own: list[Array]) -> Array:
    """(…, features): each trial's features less the trial's own, in the order in which `predict_final` uses them."""
    # The squared difference in LR mass: the best LR lies within the searched range, so the objective is curved in it.
    loss, mass, *heldout = [theirs - mine for theirs, mine in zip(features, own, strict=True)]
    return np.stack([loss, mass, mass**2, *heldout], axis=-1)


def out_of_reach(gap: Array, falls: Array, level: float) -> float:
    """Lower bound of how far a gap exceeds what the rest of the epoch can close: the test for few trials.

    The gap counts as open for good above `REACH` times the largest fall of any finished trial's loss from here to the
    end. To close it, the trial would have to fall by `1 + REACH` times as much in the same steps.

    Args:
        gap: (samples,) paired differences to the best finished trial over the window.
        falls: (trials,) upper bounds of the finished trials' falls; see `late_fall`.
        level: One-sided.

    Returns:
        Nats a token; above 0 is out of reach.
    """
    lower = np.mean(gap) - _quantile(np.array(len(gap) - 1), level) * standard_error(gap)
    return float(lower - REACH * max(np.max(falls), 0.0))


def late_fall(now: Array, end: Array, level: float) -> Array:
    """(…): upper bound of how far trials' losses fell from a window to the end of their epoch, nats a token.

    Args:
        now: (…, samples) losses in the window.
        end: (…, samples) losses in the last part of the epoch.
        level: One-sided.
    """
    # The windows hold different samples, so the means are unpaired. The smaller sample's df is a safe bound: Welch's
    # are never fewer.
    error = np.hypot(standard_error(now), standard_error(end))
    df = np.array(min(now.shape[-1], end.shape[-1]) - 1)
    return now.mean(-1) - end.mean(-1) + _quantile(df, level) * error


def standard_error(values: Array) -> Array:
    """(…): standard error of the mean of independent values (…, values); 0 for a single one."""
    count = values.shape[-1]
    return values.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.zeros(values.shape[:-1])


def _quantile(df: Array, level: float) -> Array:
    return np.asarray(stdtrit(df, level))
