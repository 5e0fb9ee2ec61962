"""A grid through the first setting of the sweep, or with a random offset, as an Optuna sampler."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from sweeps.search.search_space import SPACING, UnitCube, taken_points

PEAK_LR_LEVELS = 4  # of the peak LR for each level of another hyper-parameter: the peak LR decides most; ours


class OffsetGrid(BaseSampler):
    """Visits the cells of a grid in random order, each once; then the cells of the next grid.

    The first grid goes through the sweep's first setting, mostly the recommended point: that is one of its cells, and
    the others keep its distance from each other.
    """

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
        most = {name: self.cube.values(name) for name in self.cube.space}
        for number in range(len(taken) + 1):
            through = taken[0] if taken and number == 0 else None
            for cell in grid(most, self.trials, np.random.default_rng([self.seed, number]), through):
                params = self.cube.from_unit(cell)
                if self.cube.nearest(self.cube.to_unit(params), taken) >= SPACING:
                    return params
        return params

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.random.sample_independent(study, trial, param_name, param_distribution)


def grid(
    most: Mapping[str, float], trials: int, draw: np.random.Generator, through: np.ndarray | None = None
) -> np.ndarray:
    """Draws a grid of at most `trials` cells in random order.

    Args:
        most: Most levels of each hyper-parameter, by name: the number of its values.
        trials: Most cells.
        draw: Draws the offset and the order.
        through: (hyper-parameters,) a point of the unit cube that is to be one of the cells; None for a random offset.

    Returns:
        (cells, hyper-parameters) points of the unit cube.
    """
    # An offset inside a level's part of the range: a grid from end to end would always try the same values.
    levels = np.array(grid_levels(most, trials))
    offsets = draw.uniform(size=len(levels))
    if through is not None:
        offsets = through * levels - np.minimum(np.floor(through * levels), levels - 1)
    axes = [(np.arange(count) + offset) / count for count, offset in zip(levels, offsets, strict=True)]
    return draw.permutation(np.array(list(itertools.product(*axes))))


def grid_levels(most: Mapping[str, float], trials: int) -> list[int]:
    """Number of levels of each hyper-parameter, at most its number of values; their product is at most `trials`.

    Each next level goes to the hyper-parameter with the fewest that still has room. A level of the peak LR counts for
    `1 / PEAK_LR_LEVELS`.
    """
    levels, most_levels = [1] * len(most), list(most.values())
    weights = [PEAK_LR_LEVELS if name == "peak_lr" else 1 for name in most]
    while True:
        room = [
            i
            for i, count in enumerate(levels)
            if count < most_levels[i] and np.prod(levels) // count * (count + 1) <= trials
        ]
        if not room:
            return levels
        grown = min(room, key=lambda i: (levels[i] / weights[i], weights[i]))
        levels[grown] += 1
