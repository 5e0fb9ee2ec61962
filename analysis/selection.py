"""PURE. The rule by which a winner is chosen, as a function of the objectives: so that it can be applied again.

A trial stands for its lowest checkpoint. A setting stands for its search trial, or, once it has been replicated, for
the mean over its replicates alone (the search trial is what it was picked by, and therefore flatters it). The lowest
eligible setting wins, and of all its trials' checkpoints the lowest is the one to export.

Choosing the lowest of many flatters the winner: what it was helped by among these items it need not meet elsewhere. So
the whole choice is made again in each bootstrap resample and scored on the clusters that the resample did not draw.

Source of the correction: Efron & Tibshirani, An Introduction to the Bootstrap (1993), §17.7 (the leave-one-out
bootstrap). As a resample holds only 63 % of the clusters, it chooses somewhat worse than the full data: where the
checkpoints truly differ the corrected gain errs low, never high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.stats import Array, Bootstrap, objective

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Rule:
    """Who competes, and how a setting's figure follows from its trials'.

    Attributes:
        trial_of: (checkpoints,) index of each one's trial.
        setting_of: (trials,) index of each one's setting; -1 for a trial that doesn't compete.
        weights: (settings, trials); `weights @ trials' lowest objectives` are the settings' figures.
        eligible: (settings,) which may win; at least one.
    """

    trial_of: Indices
    setting_of: Indices
    weights: Array
    eligible: NDArray[np.bool_]

    def trial_figures(self, objectives: Array) -> Array:
        """Each trial's lowest objective: (resamples, checkpoints) to (resamples, trials)."""
        trials = range(len(self.setting_of))
        return np.stack([objectives[:, self.trial_of == trial].min(axis=1) for trial in trials], axis=1)

    def setting_figures(self, objectives: Array) -> Array:
        """Each setting's figure: (resamples, checkpoints) to (resamples, settings)."""
        return self.trial_figures(objectives) @ self.weights.T

    def best_settings(self, objectives: Array) -> Indices:
        """The winning setting: (resamples, checkpoints) to (resamples,); the first of equals."""
        return np.argmin(np.where(self.eligible, self.setting_figures(objectives), np.inf), axis=1)

    def best_checkpoints(self, objectives: Array, settings: Indices) -> Indices:
        """The lowest checkpoint of a setting: (resamples, checkpoints), (resamples,) to (resamples,)."""
        own = self.setting_of[self.trial_of] == settings[:, None]
        return np.argmin(np.where(own, objectives, np.inf), axis=1)

    def choose(self, objectives: Array) -> Indices:
        """The winner's checkpoint: (resamples, checkpoints) to (resamples,)."""
        return self.best_checkpoints(objectives, self.best_settings(objectives))


def corrected_gain(rule: Rule, draws: Bootstrap, gains: Array) -> float:
    """The gain of the checkpoint that the rule chooses, on clusters that had no part in the choice.

    It is the winner's plain gain, less what the checkpoint chosen in a resample falls short of the winner on the
    clusters left out, on average. (The winner's own mean there is its plain gain, but for the luck of the draws, which
    cancels in this way; so a single checkpoint, which nobody chose, keeps its gain.)

    Args:
        rule: How the winner is chosen.
        draws: The resamples.
        gains: (items, checkpoints), the base model's NLL minus the checkpoint's.

    Returns:
        Nats a token; NaN where no resample leaves out a cluster of every area.
    """
    totals = objective(draws.design, gains)
    winner = int(rule.choose(-totals[None, :])[0])
    chosen = rule.choose(-draws.objective(gains))
    left_out = draws.out_of_bag(gains)
    short = left_out[:, winner] - left_out[np.arange(len(chosen)), chosen]
    known = short[np.isfinite(short)]
    return float(totals[winner] - known.mean()) if len(known) else float("nan")
