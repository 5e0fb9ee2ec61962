"""The settings' worth by the model of `analysis.stats.objective_model`, where a sweep's trials allow one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.records.sweep import Trial
from analysis.stats.bootstrap import Array
from analysis.stats.objective_model import MODELED, ObjectiveModel, fit_settings

# Distinct seeds among the search trials for differences to be claimed. Replays of 16 equal settings with recorded luck:
# one or more called worse in 10 to 18 % of sweeps under one seed, 1 to 5 % under two, 0 to 2.5 % under four. Ours.
LEAST_SEEDS = 3
CURVE_POINTS = 41  # of the posterior over the LR, for pictures; ours


@dataclass(frozen=True)
class Posterior:
    """What all trials together say of each setting.

    Attributes:
        weights: (settings, trials); `weights @ trials' figures` are the posterior means.
        model: The model; a row a setting.
        curve: (LR, posterior mean, its sd) from the lowest to the highest LR tried, at the mean of warm-up and floor.
        trials: Trials behind it.
        seeds: Distinct seeds among the search trials.
    """

    weights: Array
    model: ObjectiveModel
    curve: list[tuple[float, float, float]]
    trials: int
    seeds: int

    @property
    def claims(self) -> bool:
        """Whether a difference between settings may be claimed from it."""
        return self.seeds >= LEAST_SEEDS


def posterior_of(
    settings: Sequence[str],
    trials: Sequence[str],
    setting_of: Sequence[int],
    figures: Array,
    by_id: Mapping[str, Trial],
) -> Posterior | None:
    """Fits the model to the trials that compete.

    Args:
        settings: Search trials of the settings.
        trials: Ids of the trials.
        setting_of: (trials,) index of each one's setting; -1 for a trial that does not compete.
        figures: (trials,) the objective that each trial counts by.
        by_id: All trials by id.

    Returns:
        None where there are too few trials or LRs, or where more than the LR schedule is searched.
    """
    used = [index for index, setting in enumerate(setting_of) if setting >= 0]
    params = [by_id[trials[index]].params for index in used]
    grid = _grid(params)
    every = fit_settings([*params, *grid], figures[used])
    if every is None:
        return None
    of_grid = range(len(used), len(used) + len(grid))
    curve = [(point["peak_lr"], float(every.mean[k]), every.sd(k)) for point, k in zip(grid, of_grid, strict=True)]
    model = every.of([used.index(list(trials).index(name)) for name in settings])
    weights = np.zeros((len(settings), len(trials)))
    weights[:, used] = model.weights
    return Posterior(weights, model, curve, len(used), len({by_id[name].seed for name in settings}))


def _grid(params: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Settings over the LRs that were tried, alike in everything else."""
    peaks = [float(one.get("peak_lr", 0.0)) for one in params]
    if not peaks or min(peaks) <= 0.0:
        return []
    middle = {**params[0], **{name: _middle(params, name) for name in MODELED if name in params[0]}}
    return [{**middle, "peak_lr": float(peak)} for peak in np.geomspace(min(peaks), max(peaks), CURVE_POINTS)]


def _middle(params: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [float(one.get(name, 0.0)) for one in params]
    # The mean of equal values may differ from them by rounding, and the model would scale that difference to 1.
    return values[0] if min(values) == max(values) else float(np.mean(values))
