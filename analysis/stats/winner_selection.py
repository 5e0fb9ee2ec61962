"""PURE. The rule that chooses a winner, as a function of the objectives, so that it can be applied to resamples.

A search trial counts by its lowest checkpoint. A setting counts by its search trial, or, once replicated, only by the
mean over its replicates: the search trial was picked by its score, which is therefore biased low. A replicate counts by
its checkpoint at the step that the search trial was best at: that step was chosen before the replicate was trained. The
lowest eligible setting wins, and the lowest checkpoint of all its trials is exported.

The minimum of many noisy scores is biased low: the winner's luck on these items will not repeat. So the whole choice is
made again in each bootstrap resample and scored on the clusters that the resample left out.

Source of the correction: Efron & Tibshirani, An Introduction to the Bootstrap (1993), §17.7 (the leave-one-out
bootstrap). A resample holds only 63 % of the clusters, so it chooses somewhat worse than the full data: where the
checkpoints truly differ the corrected gain errs low, never high.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from analysis.stats.bootstrap import Array, Bootstrap, objective

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Rule:
    """The competing trials, and how a setting's figure follows from them."""

    trial_of: Indices  # (checkpoints,) index of each one's trial
    setting_of: Indices  # (trials,) index of each one's setting; -1 for a trial that doesn't compete
    weights: Array  # (settings, trials); `weights @ trials' figures` are the settings' figures
    eligible: NDArray[np.bool_]  # (settings,) which may win; at least one
    # By index of a replicate: its own columns, and in the same order those of its search trial at the same steps. All
    # other trials are read where they are lowest themselves.
    read_at: Mapping[int, tuple[Indices, Indices]] = field(default_factory=dict)

    def trial_columns(self, objectives: Array) -> Indices:
        """The checkpoint that each trial counts by: (resamples, checkpoints) to (resamples, trials)."""
        chosen = []
        for trial in range(len(self.setting_of)):
            own = np.flatnonzero(self.trial_of == trial)
            own, deciding = self.read_at.get(trial, (own, own))
            chosen.append(own[np.argmin(objectives[:, deciding], axis=1)])
        return np.stack(chosen, axis=1)

    def trial_figures(self, objectives: Array) -> Array:
        """The objective that each trial counts by: (resamples, checkpoints) to (resamples, trials)."""
        return np.take_along_axis(objectives, self.trial_columns(objectives), axis=1)

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
    """The gain of the checkpoint that the rule chooses, corrected for the choice.

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
    # What the checkpoint chosen in a resample lacks against the winner on the same left-out clusters. The winner's own
    # mean there is its plain gain but for noise, which cancels: a single checkpoint, never selected, keeps its gain.
    short = left_out[:, winner] - left_out[np.arange(len(chosen)), chosen]
    known = short[np.isfinite(short)]
    return float(totals[winner] - known.mean()) if len(known) else float("nan")
