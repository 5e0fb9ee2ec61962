"""PURE. What replicates say of settings: means, differences on shared seeds, and one residual sd for all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.stats.seed_variance import arrange, critical_value


@dataclass(frozen=True)
class Replicate:
    """A setting trained once more."""

    setting: str  # the contender that it repeats
    seed: int  # its seed
    # At the step at which the search trial of its setting was best, nats a token; None unless complete
    objective: float | None
    # A failed one (the machine's fault) counts only against the budget
    state: Literal["complete", "diverged", "failed"] = "complete"


@dataclass(frozen=True)
class Fit:
    """Objectives by setting and seed, and the sd of what settings and seeds leave unexplained."""

    objectives: dict[str, dict[int, float]]  # of complete replicates, nats a token
    sd: float | None  # residual sd of one replicate, pooled over settings; None where nothing tells it
    df: float  # its degrees of freedom

    def seeds(self, setting: str) -> set[int]:
        """The seeds of a setting's complete replicates."""
        return set(self.objectives.get(setting, ()))

    def mean(self, setting: str) -> float:
        """Mean objective of a setting; infinite without a replicate, which sorts it last."""
        values = self.objectives.get(setting)
        return float(np.mean(list(values.values()))) if values else math.inf

    def difference(self, setting: str, other: str) -> tuple[float, int]:
        """Mean of setting - other over the seeds that both have, and their number; NaN for none."""
        shared = sorted(self.seeds(setting) & self.seeds(other))
        values = [self.objectives[setting][seed] - self.objectives[other][seed] for seed in shared]
        return (float(np.mean(values)) if values else math.nan), len(shared)

    def half_width(self, tail: float, replicates: int) -> float | None:
        """Student's t s sqrt(2 / replicates), one-sided, for a difference of means over so many shared seeds.

        None where there is no test: the sd is unknown, no seed is shared, or the tail is 0.
        """
        if self.sd is None or replicates == 0 or tail == 0:
            return None
        return critical_value(tail, self.df) * self.sd * math.sqrt(2.0 / replicates)


def fit_replicates(replicates: Iterable[Replicate], stated_sd: float | None = None) -> Fit:
    """Pools the residual sd of complete replicates by the leaderboard's rule; see `analysis.stats.seed_variance`."""
    objectives: dict[str, dict[int, float]] = {}
    # Sorted, so that the order of the records can't change how sums are rounded.
    for replicate in sorted(replicates, key=lambda found: (found.setting, found.seed)):
        if replicate.objective is not None:
            objectives.setdefault(replicate.setting, {})[replicate.seed] = replicate.objective
    cells = [(setting, str(seed)) for setting, by_seed in objectives.items() for seed in by_seed]
    values = np.array([value for by_seed in objectives.values() for value in by_seed.values()])
    found = arrange([setting for setting, _ in cells], [seed for _, seed in cells]).seed_sd(values, stated_sd)
    return Fit(objectives, found.residual, found.residual_df)
