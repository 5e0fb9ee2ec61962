"""A grid with a random offset, as an Optuna sampler."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from sweeps.search.search_space import SPACING, UnitCube, taken_points

PEAK_LR_LEVELS = 4  # of the peak LR for each level of another hyper-parameter: the peak LR decides most; ours


class OffsetGrid(BaseSampler):
    """Visits the cells of a grid in random order, each once; then the cells of the next grid."""

    def __init__(self, cube: UnitCube, trials: int, seed: int) -> None:
        self.cube, self.trials, self.seed = cube, trials, seed  # `seed` must stay the same after a restart
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.cube.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the first cell that is at least `SPACING` away from every trial of the sweep."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        taken = taken_points(self.cube, others)
        for number in range(len(taken) + 1):
            for cell in grid(list(self.cube.space), self.trials, np.random.default_rng([self.seed, number])):
                params = self.cube.from_unit(cell)
                if self.cube.nearest(self.cube.to_unit(params), taken) >= SPACING:
                    return params
        return params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def grid(names: Sequence[str], trials: int, draw: np.random.Generator) -> np.ndarray:
    """Draws a grid of at most `trials` cells in random order: points of the unit cube, (cells, hyper-parameters)."""
    # A random offset inside a level's part of the range: a grid from end to end would always try the same values.
    levels = grid_levels(names, trials)
    axes = [(np.arange(count) + draw.uniform()) / count for count in levels]
    return draw.permutation(np.array(list(itertools.product(*axes))))


def grid_levels(names: Sequence[str], trials: int) -> list[int]:
    """Number of levels of each hyper-parameter; their product is at most `trials`.

    Each next level goes to the hyper-parameter with the fewest that still has room. A level of the peak LR counts for
    `1 / PEAK_LR_LEVELS`.
    """
    levels = [1] * len(names)
    weights = [PEAK_LR_LEVELS if name == "peak_lr" else 1 for name in names]
    while True:
        room = [i for i, count in enumerate(levels) if np.prod(levels) // count * (count + 1) <= trials]
        if not room:
            return levels
        grown = min(room, key=lambda i: (levels[i] / weights[i], weights[i]))
        levels[grown] += 1
