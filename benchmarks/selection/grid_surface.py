"""A loss surface from a dense grid of trained settings of the tiny model (`benchmarks/data/grid_tiny.npz`).

The means of a cell's seeds are smoothed along log LR (a smoothing spline for each warm-up and floor, its stiffness by
generalized cross-validation) to remove the noise of seeds. Between warm-ups a parabola interpolates, between floors a
line in their logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import BSpline, make_smoothing_spline

from benchmarks.recording.curves import DATA, load
from benchmarks.selection.surfaces import JITTER
from trainables.config.sections import Params

GRID = DATA / "grid_tiny.npz"


@dataclass(frozen=True)
class Grid:
    """The trained cells, seeds averaged; levels ascend."""

    lrs: np.ndarray
    warmups: np.ndarray
    floors: np.ndarray
    objective: np.ndarray  # (LRs, warm-ups, floors), nats a token
    base: float  # the base model's objective
    cliff: float  # log10 of the LR above which trials diverge; infinite if none did

    @classmethod
    def read(cls, path: Path = GRID) -> Grid:
        """Reads the study `grid` of a recording.

        Raises:
            ValueError: A cell was not trained.
        """
        curves = load(path)
        curves = curves.of(curves.study == "grid")
        axes, index = _levels(curves.params)
        stable, values = curves.state == "complete", curves.objective[:, -1]
        unstable = axes[0][index[0][~stable]]
        lowest_unstable = math.log10(unstable.min()) if len(unstable) else math.inf
        usable = stable & (np.log10(axes[0])[index[0]] < lowest_unstable)
        levels = axes[0][np.log10(axes[0]) < lowest_unstable]
        sums, counts = np.zeros((2, len(levels), *map(len, axes[1:])))
        cells = tuple(column[usable] for column in index)
        np.add.at(sums, cells, values[usable])
        np.add.at(counts, cells, 1)
        if not counts.all():
            raise ValueError(f"{path}: {int((counts == 0).sum())} cells of the grid were not trained")
        # Half-way, in log LR, between the highest LR at which no trial diverged and the next.
        cliff = 0.5 * (math.log10(levels[-1]) + lowest_unstable)
        return cls(levels, axes[1], axes[2], sums / counts, curves.base_objective, cliff)


def _levels(params: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The levels of LR, warm-up and floor, and each trial's level in each; params are (trials, 3).

    Low LRs were trained with lower floors, as a sweep lowers a floor near the peak. A floor's level is its rank among
    those of its LR, with the value at the highest LR.
    """
    (lrs, lr), (warmups, warmup) = (np.unique(params[:, i].round(9), return_inverse=True) for i in (0, 1))
    floor = np.zeros(len(params), int)
    for level in range(len(lrs)):
        floors, floor[lr == level] = np.unique(params[lr == level, 2].round(9), return_inverse=True)
    return [lrs, warmups, floors], [lr, warmup, floor]


class GridSurface:
    """The interpolated grid, moved by `shift` decades to higher LRs."""

    def __init__(self, grid: Grid, shift: float, number: int) -> None:
        self.grid, self.shift, self.base = grid, shift, grid.base
        self.name = self.group = f"tiny grid {number}"
        log_lrs = np.log10(grid.lrs)
        columns = grid.objective.reshape(len(log_lrs), -1).T
        self.splines: list[BSpline] = [make_smoothing_spline(log_lrs, column) for column in columns]

    def diverges(self, params: Params) -> bool:
        return math.log10(params["peak_lr"]) - self.shift > self.grid.cliff

    def loss(self, params: Params) -> float:
        """Objective of a setting, nats a token."""
        if self.diverges(params):
            return self.base
        log_lr = np.array([math.log10(params["peak_lr"]) - self.shift])
        return float(self._values(log_lr, params["warmup_fraction"], params["decay_floor"])[0])

    def best(self) -> float:
        """Lowest objective in the searched space, to within a hundredth of a milli-nat."""
        ends = space(self.grid)
        log_lrs = np.linspace(*np.log10([ends["peak_lr"]["low"], ends["peak_lr"]["high"]]), 4001) - self.shift
        log_lrs = log_lrs[log_lrs <= self.grid.cliff]
        warmups, floors = self.grid.warmups, self.grid.floors
        finer = np.linspace(warmups[0], warmups[-1], 71)
        # Linear in the logarithm of the floor: the lowest lies at a level.
        return min(float(self._values(log_lrs, warmup, floor).min()) for warmup in finer for floor in floors)

    def _values(self, log_lrs: np.ndarray, warmup: float, floor: float) -> np.ndarray:
        warmups, floors = self.grid.warmups, self.grid.floors
        columns = np.stack([spline(log_lrs) for spline in self.splines])
        columns = columns.reshape(len(warmups), len(floors), len(log_lrs))
        by_warmup = np.array([_lagrange(warmups, i, warmup) for i in range(len(warmups))])
        by_floor = np.array([_lagrange(np.log(floors), i, math.log(floor)) for i in range(len(floors))])
        return np.einsum("w,f,wfx->x", by_warmup, by_floor, columns)


def _lagrange(knots: np.ndarray, index: int, at: float) -> float:
    """Lagrange polynomial: 1 at one knot and 0 at the others."""
    others = np.delete(knots, index)
    return float(np.prod((at - others) / (knots[index] - others)))


def space(grid: Grid) -> dict[str, Any]:
    """The config section `space` that the moved grid covers, with its cliff."""
    low = grid.lrs[0] * 10**JITTER
    high = 10 ** (grid.cliff + JITTER) if math.isfinite(grid.cliff) else grid.lrs[-1] * 10**-JITTER
    return {
        "peak_lr": {"low": float(low), "high": float(high), "log": True},
        "warmup_fraction": {"low": float(grid.warmups[0]), "high": float(grid.warmups[-1])},
        "decay_floor": {"low": float(grid.floors[0]), "high": float(grid.floors[-1]), "log": True},
        "beyond_recommended": "random weights bear, and need, a higher LR than a pretrained model",
    }


def moved_grids(grid: Grid, seeds: int) -> Iterator[GridSurface]:
    """Moves the grid's optimum by up to `JITTER` decades, once a seed."""
    for seed in range(seeds):
        yield GridSurface(grid, float(np.random.default_rng([seed, 1]).uniform(-JITTER, JITTER)), seed)
