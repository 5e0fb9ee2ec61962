"""A grid whose place in the space is drawn at random, as an Optuna sampler."""

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

PEAK_LR_LEVELS = 4
"""Levels of the peak LR for each level of any other hyper-parameter: it decides most. Ours."""


class OffsetGrid(BaseSampler):
    """Visits the cells of a grid in random order, each once; then those of the next grid.

    A level lies at the same random place inside its part of the range for all cells: a grid that always starts at an
    end of the range would try the ends, and always the same values.

    Args:
        cube: The space.
        trials: Cells at most.
        seed: Of the grid's place and order; the same after a restart.
    """

    def __init__(self, cube: UnitCube, trials: int, seed: int) -> None:
        self.cube, self.trials, self.seed = cube, trials, seed
        self.random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space."""
        return dict(self.cube.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The first cell that is `SPACING` from every trial of the sweep."""
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
        """For what is not in the space: never asked for in a sweep."""
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def grid(names: Sequence[str], trials: int, draw: np.random.Generator) -> np.ndarray:
    """The cells of one grid, in random order.

    Args:
        names: The hyper-parameters.
        trials: Cells at most, 1 and up.
        draw: Draws the offset of each hyper-parameter's levels, uniform inside a level's part of the range, and the
            order.

    Returns:
        Points of the unit cube, (cells, hyper-parameters).
    """
    levels = grid_levels(names, trials)
    axes = [(np.arange(count) + draw.uniform()) / count for count in levels]
    return draw.permutation(np.array(list(itertools.product(*axes))))


def grid_levels(names: Sequence[str], trials: int) -> list[int]:
    """How many levels each hyper-parameter gets: their product is at most `trials`.

    The next level goes to the hyper-parameter with the fewest, as long as there is room for it. The peak LR's count for
    a quarter: it has four before any other has its second.
    """
    levels = [1] * len(names)
    weights = [PEAK_LR_LEVELS if name == "peak_lr" else 1 for name in names]
    while True:
        room = [i for i, count in enumerate(levels) if np.prod(levels) // count * (count + 1) <= trials]
        if not room:
            return levels
        grown = min(room, key=lambda i: (levels[i] / weights[i], weights[i]))
        levels[grown] += 1
