"""What replicates say of settings: means, differences on shared seeds, and one residual sd for all. Pure.

A seed is a block: all settings that are trained with it share its sample order and its adapter's first weights
(randomised blocks: Montgomery, Design and Analysis of Experiments, ch. 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

PRIOR_DF = 4
"""Degrees of freedom that a stated seed sd counts for (ours): as many as three settings in three rounds give."""


@dataclass(frozen=True)
class Replicate:
    """A setting trained once more.

    Attributes:
        setting: The contender that it repeats.
        seed: Its seed.
        objective: At the step at which the search trial of its setting was best, nats a token; None unless complete.
        state: "failed" ones (the machine's fault) are as if they had never been, but for the budget.
    """

    setting: str
    seed: int
    objective: float | None
    state: Literal["complete", "diverged", "failed"] = "complete"


@dataclass(frozen=True)
class Fit:
    """Objectives by setting and seed, and the sd of what settings and seeds leave unexplained.

    Attributes:
        objectives: Of complete replicates, nats a token.
        sd: Residual sd of one replicate, pooled over settings; None where nothing tells it.
        df: Its degrees of freedom.
    """

    objectives: dict[str, dict[int, float]]
    sd: float | None
    df: int

    def seeds(self, setting: str) -> set[int]:
        """The seeds of a setting's complete replicates."""
        return set(self.objectives.get(setting, ()))

    def mean(self, setting: str) -> float:
        """Mean objective of a setting; infinite without a replicate, so that it stands last."""
        values = self.objectives.get(setting)
        return float(np.mean(list(values.values()))) if values else math.inf

    def difference(self, setting: str, other: str) -> tuple[float, int]:
        """Mean of setting - other over the seeds that both have, and how many these are; NaN for none."""
        shared = sorted(self.seeds(setting) & self.seeds(other))
        values = [self.objectives[setting][seed] - self.objectives[other][seed] for seed in shared]
        return (float(np.mean(values)) if values else math.nan), len(shared)

    def half_width(self, level: float, replicates: int) -> float | None:
        """Student's t(level) s sqrt(2 / replicates), for a difference of means over the same seeds.

        Args:
            level: One-sided, above 0.5.
            replicates: Seeds that both settings have; 0 gives None, as does an unknown sd.
        """
        if self.sd is None or replicates == 0:
            return None
        return float(stdtrit(self.df, level)) * self.sd * math.sqrt(2.0 / replicates)


def fit_replicates(replicates: Iterable[Replicate], stated_sd: float | None = None) -> Fit:
    """Pools the residual sd over settings: least squares of objective = setting + seed.

    Args:
        replicates: Of which the complete ones are taken; at most one of a setting and seed.
        stated_sd: A sd between seeds that is known from elsewhere; it counts for `PRIOR_DF` degrees of freedom.
    """
    objectives: dict[str, dict[int, float]] = {}
    # Sorted, so that sums are rounded alike whatever the order of the records.
    for replicate in sorted(replicates, key=lambda found: (found.setting, found.seed)):
        if replicate.objective is not None:
            objectives.setdefault(replicate.setting, {})[replicate.seed] = replicate.objective
    cells = [(setting, seed) for setting, by_seed in objectives.items() for seed in by_seed]
    squares, df = additive_residuals(cells, [objectives[setting][seed] for setting, seed in cells])
    if stated_sd is not None:
        squares, df = squares + PRIOR_DF * stated_sd**2, df + PRIOR_DF
    return Fit(objectives, math.sqrt(squares / df) if df else None, df)


def additive_residuals(cells: Sequence[tuple[str, int]], values: Sequence[float]) -> tuple[float, int]:
    """Sum of squared residuals of value = setting + seed by least squares, and its degrees of freedom.

    Args:
        cells: Setting and seed of each value.
        values: Parallel to `cells`.
    """
    if not cells:
        return 0.0, 0
    settings, seeds = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    design = np.zeros((len(cells), len(settings) + len(seeds)))
    for row, (setting, seed) in enumerate(cells):
        design[row, settings.index(setting)] = design[row, len(settings) + seeds.index(seed)] = 1.0
    centred = np.asarray(values) - np.mean(values)
    solution, _, rank, _ = np.linalg.lstsq(design, centred, rcond=None)
    df = len(cells) - int(rank)
    return (float(np.sum((centred - design @ solution) ** 2)) if df else 0.0), df
