"""PURE. How much of a difference between two settings is the luck of the training's seed.

Items tell two checkpoints apart; only seeds tell two settings apart. A setting's objective under seed s is modelled as
`setting + seed + rest`: replicates that share a seed (data order, adapter's initial weights) share its luck, so that
differences between settings are blocked by seed and only the rest counts. Its standard deviation is pooled over all
replicated settings; where there are no replicates it is stated: by the config, else by this project's prior.

Sources: Box, Hunter & Hunter, Statistics for Experimenters (2nd ed.), ch. 4 (randomised blocks); Satterthwaite,
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

# Ours, nats a token. From the two pairs of runs of SmolLM2-135M that differ in their seed alone (docs/performance.md):
# held-out NLL 2.4149 and 2.3934 with LoRA, 2.0006 and 1.9920 in full; sqrt((0.0215² + 0.0086²) / 4) = 0.0116. Two
# degrees of freedom are little: a sweep that must decide measures its own (`confirm`).
PRIOR_SEED_SD = 0.012

# Ours: degrees of freedom that a config's statement counts for beside replicates: as many as three settings in three
# rounds give. The prior counts for none: once there are replicates, it is forgotten.
STATED_DF = 4


@dataclass(frozen=True)
class SeedSd:
    """Standard deviations between seeds, nats a token.

    Attributes:
        total: Of a setting's objective.
        residual: What is left of it in a difference between settings of one seed, for each of the two.
        total_df: Degrees of freedom of `total`; infinite for a stated one.
        residual_df: Likewise.
        source: `replicates`, `config` or `prior`.
        single: As `residual`, for settings that have one search trial each: taken as known, the larger of what is
            stated and what replicates (of other settings) gave.
    """

    total: float
    residual: float
    total_df: float
    residual_df: float
    source: str
    single: float


@dataclass(frozen=True)
class Replicates:
    """Which replicate is of which setting and seed, and what follows from that alone.

    Attributes:
        settings: The settings, sorted.
        weights: (settings, replicates); `weights @ objectives` are the settings' means, as over all seeds used.
        blocked: Whether the means are adjusted for seeds. They are plain means where no chain of shared seeds joins
            all settings.
        residual_df: Degrees of freedom of what setting and seed leave.
        total_df: Degrees of freedom within settings.
    """

    settings: tuple[str, ...]
    weights: Array
    blocked: bool
    residual_df: int
    total_df: int
    _within: Array
    _left: Array

    def seed_sd(self, objectives: Array, stated: float | None = None) -> SeedSd:
        """The seeds' standard deviation, pooled over all settings.

        Args:
            objectives: (replicates,), nats a token.
            stated: What the config says; alone where the replicates leave no degree of freedom, else pooled with
                theirs as `STATED_DF` of them.
        """
        known = stated_seed_sd(stated)
        if self.total_df < 1:
            return known
        total, total_df = _pooled(self._within @ objectives, self.total_df, stated)
        if self.residual_df < 1:  # one replicated setting, say: its spread is an upper bound of the rest's
            return SeedSd(total, total, total_df, total_df, "replicates", max(known.single, total))
        residual, df = _pooled(self._left @ objectives, self.residual_df, stated)
        return SeedSd(total, residual, total_df, df, "replicates", max(known.single, residual))


def stated_seed_sd(stated: float | None) -> SeedSd:
    """A standard deviation that was not measured here and is taken as known: the config's, else the prior."""
    sd = PRIOR_SEED_SD if stated is None else stated
    return SeedSd(sd, sd, math.inf, math.inf, "prior" if stated is None else "config", sd)


def arrange(settings: Sequence[str], seeds: Sequence[str]) -> Replicates:
    """Lays out replicates for the two-way additive model, fitted by least squares.

    Args:
        settings: Each replicate's setting.
        seeds: Each replicate's seed.

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
    # settings and seeds that shared trials join into one whole lack exactly one degree of freedom: the overall level
    blocked = len(settings) > 0 and int(np.linalg.matrix_rank(both)) == len(names) + len(blocks) - 1
    if not blocked:
        df = len(settings) - len(names)
        return Replicates(names, plain, False, df, df, within, within)
    fitted = np.linalg.pinv(both)
    means = np.hstack([np.eye(len(names)), np.full((len(names), len(blocks)), 1 / len(blocks))]) @ fitted
    left = np.eye(len(settings)) - both @ fitted
    df = len(settings) - len(names) - len(blocks) + 1
    return Replicates(names, means, True, df, len(settings) - len(names), within, left)


def standard_error(items: float, item_df: float, seeds: float, seed_df: float) -> tuple[float, float]:
    """Joins the two independent reasons why a figure could have come out otherwise.

    Args:
        items: Standard error over items.
        item_df: Its degrees of freedom.
        seeds: Standard error over seeds.
        seed_df: Its degrees of freedom; may be infinite.

    Returns:
        The joint standard error, and its degrees of freedom after Satterthwaite (infinite where it is 0).
    """
    variance = items**2 + seeds**2
    spent = items**4 / item_df + (seeds**4 / seed_df if math.isfinite(seed_df) else 0.0)
    return math.sqrt(variance), variance**2 / spent if spent > 0 else math.inf


def critical_value(tail: float, df: float) -> float:
    """Quantile of Student's t that is exceeded with probability `tail`; `df` may be infinite."""
    return float(scipy.special.stdtrit(df, 1 - tail))


def _pooled(residuals: Array, df: int, stated: float | None) -> tuple[float, float]:
    """Standard deviation and degrees of freedom of residuals, a statement counted in."""
    squares, counted = float(residuals @ residuals), 0
    if stated is not None:
        squares, counted = squares + STATED_DF * stated**2, STATED_DF
    return math.sqrt(squares / (df + counted)), df + counted
