"""PURE. How much of a difference between two settings is the luck of the training seed.

A setting's objective under seed s is modeled as `setting + seed + residual`. Replicates that share a seed (order of
samples, initial adapter weights) share its effect: differences between settings are blocked by seed, and only the
residual counts. Its standard deviation is pooled over all replicated settings by least squares. Leaderboard and
`sweeps.confirm` both take it from here, so that they can't disagree about a tie.

Sources: Box, Hunter & Hunter, Statistics for Experimenters (2nd ed.), ch. 4 (randomized blocks); Satterthwaite,
Biometrics Bulletin 2 (1946) (degrees of freedom of a sum of variances). How sure a difference must be:
`analysis.stats.multiple_comparisons`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special  # not scipy.stats, which takes a second to import

from analysis.stats.bootstrap import Array

# Ours: degrees of freedom that a config's statement counts for, with replicates or without: as many as three settings
# in three rounds give. There is no prior: measured sds run from 0.001 (LoRA on large models) to 0.12 nats a token
# (SmolLM2-135M at a peak LR of 2e-3), and any fixed value calls equal settings different somewhere in that range.
STATED_DF = 4


@dataclass(frozen=True)
class SeedSd:
    """Standard deviations between seeds, nats a token."""

    # Each is None where neither replicates nor the config tell it; no claim is made of settings then.
    total: float | None  # of a setting's objective
    total_df: float  # its degrees of freedom; 0 where unknown
    residual: float | None  # what is left of it, for each of the two settings, in a difference on shared seeds
    residual_df: float  # its degrees of freedom; 0 where unknown
    # As `residual`, for settings with one search trial each: what replicates of other settings gave, and the config.
    # The total sd, an upper bound, where replicates leave no residual. Also the one to print.
    single: float | None
    single_df: float  # its degrees of freedom; 0 where unknown
    source: str  # `replicates`, `config` or `unknown`


@dataclass(frozen=True)
class Replicates:
    """The layout of replicates by setting and seed."""

    settings: tuple[str, ...]  # the settings, sorted
    weights: Array  # (settings, replicates); `weights @ objectives` are the settings' means, as over all seeds used
    # Whether the means are adjusted for seeds. They are plain means, and bear the seeds' whole spread, where no chain
    # of shared seeds joins all settings.
    blocked: bool
    residual_df: int  # degrees of freedom of what setting and seed leave
    total_df: int  # degrees of freedom within settings
    _within: Array
    _left: Array

    def seed_sd(self, objectives: Array, stated: float | None = None) -> SeedSd:
        """The seeds' standard deviation, pooled over all settings.

        Args:
            objectives: (replicates,), nats a token.
            stated: What the config says; pooled with the replicates as `STATED_DF` degrees of freedom.
        """
        total, total_df = _pooled(self._within @ objectives, self.total_df, stated)
        residual, residual_df = _pooled(self._left @ objectives, self.residual_df, stated)
        # With one replicated setting, say, the spread within it is an upper bound of the residual.
        single, single_df = (residual, residual_df) if self.residual_df else (total, total_df)
        return SeedSd(
            total=total,
            total_df=total_df,
            residual=residual,
            residual_df=residual_df,
            single=single,
            single_df=single_df,
            source="replicates" if self.total_df else "unknown" if stated is None else "config",
        )


def arrange(settings: Sequence[str], seeds: Sequence[str]) -> Replicates:
    """Lays out replicates, by each one's setting and seed, for the two-way additive model fitted by least squares.

    Raises:
        ValueError: Lengths differ.
    """
    if len(settings) != len(seeds):
        raise ValueError(f"settings and seeds must be of one length, got {len(settings)} and {len(seeds)}")
    names, blocks = tuple(sorted(set(settings))), sorted(set(seeds))
    of_setting = np.array([[setting == name for name in names] for setting in settings], dtype=float)
    of_setting = of_setting.reshape(len(settings), len(names))
    of_seed = np.array([[seed == block for block in blocks] for seed in seeds], dtype=float)
    both = np.hstack([of_setting, of_seed.reshape(len(seeds), len(blocks))])
    plain = (of_setting / np.maximum(1, of_setting.sum(axis=0))).T
    within = np.eye(len(settings)) - of_setting @ plain
    total_df = len(settings) - len(names)
    # A connected design lacks exactly one degree of freedom: the overall level.
    blocked = len(settings) > 0 and int(np.linalg.matrix_rank(both)) == len(names) + len(blocks) - 1
    if not blocked:
        return Replicates(names, plain, False, total_df, total_df, within, within)
    fitted = np.linalg.pinv(both)
    means = np.hstack([np.eye(len(names)), np.full((len(names), len(blocks)), 1 / len(blocks))]) @ fitted
    return Replicates(
        names, means, True, total_df - len(blocks) + 1, total_df, within, np.eye(len(settings)) - both @ fitted
    )


@dataclass(frozen=True)
class JointError:
    """The standard error of a figure from two independent sources: the held-out items and the seeds."""

    items: float  # standard error over items
    item_df: float  # its degrees of freedom
    seeds: float  # standard error over seeds
    seed_df: float  # its degrees of freedom; may be infinite

    @property
    def total(self) -> float:
        """Standard error over both."""
        return math.hypot(self.items, self.seeds)

    @property
    def df(self) -> float:
        """Degrees of freedom of `total` after Satterthwaite; infinite where it is 0."""
        fixed = not math.isfinite(self.seed_df)
        spent = self.items**4 / self.item_df + (0.0 if fixed else self.seeds**4 / self.seed_df)
        return self.total**4 / spent if spent > 0 else math.inf

    def reach(self, tail: float) -> float:
        """Half-width of the interval that misses the true figure on a side with probability `tail` at most.

        Each source counts by its own quantile of t, which never misses more often (Banerjee, Sankhya 22 (1960)). One
        quantile by `df` does: a spread of one degree of freedom is often far too low, and then the items' many count.
        """
        return math.hypot(
            critical_value(tail, self.item_df) * self.items, critical_value(tail, self.seed_df) * self.seeds
        )


def critical_value(tail: float, df: float) -> float:
    """Quantile of Student's t that is exceeded with probability `tail`; `df` may be infinite."""
    return float(scipy.special.stdtrit(df, 1 - tail))


def _pooled(residuals: Array, df: int, stated: float | None) -> tuple[float | None, float]:
    # Without a degree of freedom the residuals are rounding errors.
    squares = float(residuals @ residuals) if df else 0.0
    if stated is not None:
        squares, df = squares + STATED_DF * stated**2, df + STATED_DF
    return math.sqrt(squares / df) if df else None, df
