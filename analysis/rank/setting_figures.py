"""What a setting stands at beside the winner and the base model: differences, intervals, whether it is worse."""

from __future__ import annotations

import math

import numpy as np

from analysis.output.leaderboard import Interval, SettingFigures
from analysis.rank.candidates import finite
from analysis.rank.score_matrix import ScoreMatrix
from analysis.rank.settings import SettingTable
from analysis.stats.bootstrap import LEVEL, Array
from analysis.stats.multiple_comparisons import pair_tail, planned_rounds, round_tail
from analysis.stats.seed_variance import STATED_DF, JointError

# Degrees of freedom from which replicates of some settings speak for those without any. With the one that 2 x 2
# replicates leave, 13 to 26 % of sweeps of 4 equal settings called one worse: such a spread is often far too low, and
# beside it the items' many degrees of freedom hide that. Ours, as many as a stated sd counts for.
LEAST_DF = STATED_DF
# From which replicates decide between their own settings where the posterior may claim, too. With one the quantile of t
# is 12.7, and 2 x 2 replicates alone tell no likely difference. Ours.
LEAST_DF_BETWEEN = 2

Spread = tuple[float, float]  # a standard error over seeds and its degrees of freedom


def setting_figures(table: SettingTable, winner: int, base_objective: float | None) -> list[SettingFigures]:
    """Figures of each setting, seed variance included.

    Args:
        table: The settings.
        winner: Index of the winning setting.
        base_objective: The base model's.

    Returns:
        For each setting `objective` (its mean over replicates, else its search trial's), and `posterior` and
        `posterior_sd` by all trials together (None where they are too few). `gain` and `gain_interval` of the objective
        (where only the posterior knows the luck of seeds: of the posterior) as they would be with other items and
        seeds, and its number of `seeds`. `behind` the winner is taken from replicates where both have enough, unless
        they leave fewer than `LEAST_DF_BETWEEN` and the posterior may claim; else from the posterior, else from the two
        search trials. `behind_interval` holds for all replicated settings at once, and
        for all others at once; `separated`: whether it lies above 0.
        `behind_se`, over items and seeds, and `behind_df` (Satterthwaite's) are of a single difference;
        `behind_se_items` covers items only. An interval counts items and seeds by the degrees of freedom of each. It is
        None where an area has a single cluster, the seeds' spread is unknown, or replicates are tested after a later
        round.
    """
    matrix, rule = table.matrix, table.rule
    totals = matrix.objectives()
    best = rule.trial_columns(totals[None, :])[0]
    base = matrix.draws.objective(matrix.base_values[:, None])[:, 0]
    resampled = matrix.resampled[:, best]  # (resamples, trials)
    found: list[SettingFigures] = []
    for k in range(len(table.settings)):
        estimate = _estimate(table, k)
        gain = None if base_objective is None else base_objective - float(estimate @ totals[best])
        gained = matrix.base_values - matrix.values[:, best] @ estimate
        own = _error(matrix, base - resampled @ estimate, gained, _own_seeds(table, k))
        contrast = _contrast(table, k, winner)
        behind = float(contrast @ totals[best])
        differences = matrix.values[:, best] @ contrast
        error = _error(matrix, resampled @ contrast, differences, _shared_seeds(table, k, winner, contrast))
        interval = None if k == winner else _interval(behind, error, _tail(table, k, winner))
        found.append(
            {
                "objective": float(table.means[k] @ totals[best]),
                "posterior": float(rule.weights[k] @ totals[best]) if table.posterior else None,
                "posterior_sd": table.posterior.model.sd(k) if table.posterior else None,
                "gain": gain,
                "gain_interval": None if gain is None else _interval(gain, own, (1 - LEVEL) / 2),
                "seeds": max(1, table.seeds[k]),
                "replicated": table.seeds[k] > 0,
                "diverged_replicates": table.diverged[k],
                "behind": behind,
                "behind_interval": interval,
                "behind_se_items": finite(float(np.std(resampled @ contrast, ddof=1))),
                "behind_se": error.total if error else None,
                "behind_df": finite(error.df) if error else None,
                "separated": interval is not None and interval[0] > 0,
            }
        )
    return found


def _own_seeds(table: SettingTable, setting: int) -> Spread | None:
    # A setting's own figure bears the whole spread between seeds: no shared seed takes any of it out.
    sd, weights = table.seed_sd, table.means[setting]
    if _is_expected(table, setting):
        assert table.posterior
        return table.posterior.model.sd(setting), table.posterior.model.df
    return None if sd.total is None else (sd.total * float(np.linalg.norm(weights)), sd.total_df)


def _by_posterior(table: SettingTable, setting: int, other: int) -> bool:
    """Whether the posterior says how two settings differ: it knows the luck of seeds, and replicates are too few."""
    return model_decides(table) or (_claims(table) and not table.confirmed(setting, other))


def model_decides(table: SettingTable) -> bool:
    """Whether the posterior decides between the replicated settings, too: their replicates leave too few df."""
    return _claims(table) and table.seed_sd.residual_df < LEAST_DF_BETWEEN


def _is_expected(table: SettingTable, setting: int) -> bool:
    """Whether a setting's own figure is the posterior's: its seeds were not measured, and the posterior knows them."""
    return _claims(table) and not table.confirmed(setting, setting)


def _claims(table: SettingTable) -> bool:
    return table.posterior is not None and table.posterior.claims


def _estimate(table: SettingTable, setting: int) -> Array:
    """(trials,) coefficients of the trials' objectives in a setting's own figure."""
    return table.rule.weights[setting] if _is_expected(table, setting) else table.means[setting]


def _shared_seeds(table: SettingTable, setting: int, winner: int, contrast: Array) -> Spread | None:
    sd, size = table.seed_sd, float(np.linalg.norm(contrast))
    if _by_posterior(table, setting, winner):
        assert table.posterior
        return table.posterior.model.difference_sd(setting, winner), table.posterior.model.df
    if not table.confirmed(setting, winner):
        return None if sd.single is None or sd.single_df < LEAST_DF else (sd.single * size, sd.single_df)
    return None if sd.residual is None else (sd.residual * size, sd.residual_df)


def _tail(table: SettingTable, setting: int, winner: int) -> float:
    stated, seeds = table.separation, table.seeds
    if _by_posterior(table, setting, winner) or not table.confirmed(setting, winner):
        return pair_tail(len(table.settings), stated.alpha)
    rounds = planned_rounds(table.begun, stated.rounds, stated.budget)
    # Of two contenders the one whose replicates did not fail shows how many rounds were trained.
    trained = (max if table.begun <= 2 else min)(seeds[setting], seeds[winner])
    return round_tail(table.begun, trained, rounds, stated.alpha, stated.looks)


def _contrast(table: SettingTable, setting: int, winner: int) -> Array:
    """(trials,) coefficients of the trials' objectives in the difference of a setting to the winner."""
    if _by_posterior(table, setting, winner):
        return table.rule.weights[setting] - table.rule.weights[winner]
    if table.confirmed(setting, winner):
        return table.means[setting] - table.means[winner]
    # Search trials share the sweep's seed. The winner was picked by its own; the simultaneous intervals pay for that.
    own = np.array([[trial == table.settings[k] for trial in table.trials] for k in (setting, winner)])
    return own[0].astype(float) - own[1]


def _error(matrix: ScoreMatrix, resampled: Array, differences: Array, seeds: Spread | None) -> JointError | None:
    """Joint error of items (from their resamples, or their differences) and seeds; None where either is unknown."""
    rare = matrix.rare_error(differences)
    items = float(np.std(resampled, ddof=1)) if rare is None else rare
    item_df = sum(clusters - 1 for clusters in matrix.design.clusters)
    return JointError(items, item_df, *seeds) if seeds and math.isfinite(items) else None


def _interval(value: float, error: JointError | None, tail: float) -> Interval | None:
    if error is None or tail == 0:
        return None
    reach = error.reach(tail)
    return [value - reach, value + reach]
