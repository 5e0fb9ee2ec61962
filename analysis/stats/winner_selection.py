"""PURE. The rule by which a winner is chosen, as a function of the objectives: so that it can be applied again.

A search trial stands for its lowest checkpoint. A setting stands for its search trial, or, once it has been replicated,
for the mean over its replicates alone (the search trial is what it was picked by, and therefore flatters it). A
replicate stands for its checkpoint at the step that the search trial was best at: that was chosen before it was
trained, whereas its own lowest checkpoint would flatter it again. The lowest eligible setting wins, and of all its
trials' checkpoints the lowest is the one to export.

Choosing the lowest of many flatters the winner: what it was helped by among these items it need not meet elsewhere. So
the whole choice is made again in each bootstrap resample and scored on the clusters that the resample did not draw.

Source of the correction: Efron & Tibshirani, An Introduction to the Bootstrap (1993), §17.7 (the leave-one-out
bootstrap). As a resample holds only 63 % of the clusters, it chooses somewhat worse than the full data: where the
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
    """Who competes, and how a setting's figure follows from its trials'.

    Attributes:
        trial_of: (checkpoints,) index of each one's trial.
        setting_of: (trials,) index of each one's setting; -1 for a trial that doesn't compete.
        weights: (settings, trials); `weights @ trials' lowest objectives` are the settings' figures.
        eligible: (settings,) which may win; at least one.
        read_at: By index of a trial that is read where another is lowest: its own columns, and in the same order those
            of the other at the same steps. All others are read where they are lowest themselves.
    """

    trial_of: Indices
    setting_of: Indices
    weights: Array
    eligible: NDArray[np.bool_]
    read_at: Mapping[int, tuple[Indices, Indices]] = field(default_factory=dict)

    def trial_columns(self, objectives: Array) -> Indices:
        """The checkpoint that each trial stands for: (resamples, checkpoints) to (resamples, trials)."""
        chosen = []
        for trial in range(len(self.setting_of)):
            own = np.flatnonzero(self.trial_of == trial)
            own, deciding = self.read_at.get(trial, (own, own))
            chosen.append(own[np.argmin(objectives[:, deciding], axis=1)])
        return np.stack(chosen, axis=1)

    def trial_figures(self, objectives: Array) -> Array:
        """The objective that each trial stands for: (resamples, checkpoints) to (resamples, trials)."""
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
