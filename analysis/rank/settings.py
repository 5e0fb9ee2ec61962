"""How the settings stand: which trials speak for each, and which differences exceed the luck of items and seeds.

A setting is named by its search trial. Its complete replicates (`kind: replicate`, another seed) are folded into it:
once it has one, they alone speak for it. Settings with a replicate come before those without, for a single score that
was picked as the lowest of many flatters; a setting of which a replicate diverged comes after all that are stable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.rank.candidates import Figures, finite
from analysis.rank.score_matrix import ScoreMatrix
from analysis.records.sweep import Trial
from analysis.stats.bootstrap import LEVEL, Array
from analysis.stats.multiple_comparisons import Separation, pair_tail, planned_rounds, round_tail
from analysis.stats.seed_variance import Replicates, SeedSd, arrange, critical_value, standard_error
from analysis.stats.winner_selection import Indices, Rule


@dataclass(frozen=True)
class SettingTable:
    """The settings that compete.

    Attributes:
        settings: Their search trials, sorted.
        trials: (trials,) ids in the order of `rule`: search trials and replicates with a checkpoint that can be ranked.
        rule: How a winner is chosen.
        seeds: (settings,) number of complete replicates; 0 for a setting that its search trial speaks for.
        diverged: (settings,) number of replicates that diverged.
        seed_sd: Spread between seeds, and where it is known from.
        blocked: Whether the replicated settings' means are adjusted for seeds.
        separation: When settings are told apart, by the config.
    """

    settings: tuple[str, ...]
    trials: tuple[str, ...]
    rule: Rule
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    seed_sd: SeedSd
    blocked: bool
    separation: Separation

    def tier(self, setting: int) -> tuple[bool, bool]:
        """What ranks before any figure: stable settings first, then replicated ones."""
        return self.diverged[setting] > 0, self.seeds[setting] == 0

    def confirmed(self, setting: int, other: int) -> bool:
        """Whether two settings can be compared by their replicates."""
        return self.seeds[setting] > 0 and self.seeds[other] > 0


def make_setting_table(
    trials: Sequence[Trial], score_matrix: ScoreMatrix, separation: Separation, notes: list[str]
) -> SettingTable | None:
    """Finds the settings and their replicates.

    Args:
        trials: All that ended.
        score_matrix: The checkpoints that can be ranked.
        separation: When settings are told apart, by the config.
        notes: Replicates that can't be counted are added here.

    Returns:
        None where no search trial has a checkpoint that can be ranked.
    """
    by_id = {trial.trial_id: trial for trial in trials}
    ranked = sorted({candidate.trial_id for candidate in score_matrix.candidates})
    settings = [name for name in ranked if by_id[name].kind != "replicate"]
    if not settings:
        return None
    parent = {name: str(by_id[name].replicate_of) for name in ranked if by_id[name].kind == "replicate"}
    read_at = {name: _at_its_steps(score_matrix, name, parent[name]) for name in parent if parent[name] in settings}
    fresh = [name for name in read_at if len(read_at[name][0])]
    replicates = arrange([parent[name] for name in fresh], [_seed(by_id[name]) for name in fresh])
    diverged = [sum(t.replicate_of == name and t.state == "diverged" for t in trials) for name in settings]
    seeds = [sum(parent[replicate] == name for replicate in fresh) for name in settings]
    tiers = [(count > 0, number == 0) for count, number in zip(diverged, seeds, strict=True)]
    place = {name: k for k, name in enumerate(settings)} | {name: settings.index(parent[name]) for name in fresh}
    rule = Rule(
        trial_of=np.array([ranked.index(candidate.trial_id) for candidate in score_matrix.candidates], dtype=np.intp),
        setting_of=np.array([place.get(name, -1) for name in ranked], dtype=np.intp),
        weights=_weights(settings, ranked, fresh, replicates),
        eligible=np.array([tier == min(tiers) for tier in tiers]),
        read_at={ranked.index(name): read_at[name] for name in fresh},
    )
    figures = rule.trial_figures(score_matrix.objectives()[None, :])[0]
    seed_sd = replicates.seed_sd(np.array([figures[ranked.index(name)] for name in fresh]), separation.seed_sd)
    blocked = bool(fresh) and replicates.blocked
    notes += [
        f"{name} replicates {parent[name]}, which has no rank, and does not count"
        for name in parent
        if name not in read_at
    ]
    notes += [
        f"{name} was not scored at the step that {parent[name]} was best at, and does not count"
        for name in read_at
        if name not in fresh
    ]
    if fresh and not blocked:
        notes.append("the replicates' seeds are not shared between settings: their means are not adjusted for seeds")
    for name, count in zip(settings, diverged, strict=True):
        if count:
            notes.append(f"{name}: {count} replicates diverged; it ranks behind the settings of which none did")
    return SettingTable(
        tuple(settings), tuple(ranked), rule, tuple(seeds), tuple(diverged), seed_sd, blocked, separation
    )


def setting_figures(
    setting_table: SettingTable, score_matrix: ScoreMatrix, winner: int, base_objective: float | None
) -> list[Figures]:
    """Figures of each setting, seed variance included.

    Args:
        setting_table: The settings.
        score_matrix: Their checkpoints.
        winner: Index of the winning setting.
        base_objective: The base model's, nats a token.

    Returns:
        For each setting `objective` (its mean over replicates, else its search trial's), `gain` and `gain_interval` of
        it as they would be with other items and seeds; `seeds` that it rests on; `behind` the winner, by the replicates
        where both have some, else by the two search trials, with `behind_interval`, which holds for all replicated
        settings at once, and for all at once that are compared by search trials (`behind_se`, over items and seeds, and
        `behind_df` are those of a single difference; `behind_se_items` of items alone); `separated`: whether it lies
        above 0. An interval is None where an area has a single cluster.
    """
    rule, best = setting_table.rule, setting_table.rule.trial_columns(score_matrix.objectives()[None, :])[0]
    means = rule.setting_figures(score_matrix.objectives()[None, :])[0]
    base = score_matrix.draws.objective(score_matrix.base_nll[:, None])[:, 0]
    resampled = score_matrix.resampled[:, best]  # (resamples, trials)
    found = []
    for k, mean in enumerate(means.tolist()):
        gain = None if base_objective is None else base_objective - mean
        alone = _error(score_matrix, base - resampled @ rule.weights[k], _own_seeds(setting_table, k))
        contrast = _contrast(setting_table, k, winner)
        behind = float(contrast @ score_matrix.objectives()[best])
        between = _error(score_matrix, resampled @ contrast, _shared_seeds(setting_table, k, winner, contrast))
        interval = None if k == winner else _interval(behind, between, _tail(setting_table, k, winner))
        found.append(
            {
                "objective": mean,
                "gain": gain,
                "gain_interval": None if gain is None else _interval(gain, alone, (1 - LEVEL) / 2),
                "seeds": max(1, setting_table.seeds[k]),
                "replicated": setting_table.seeds[k] > 0,
                "diverged_replicates": setting_table.diverged[k],
                "behind": behind,
                "behind_interval": interval,
                "behind_se_items": finite(float(np.std(resampled @ contrast, ddof=1))),
                "behind_se": between[0] if between else None,
                "behind_df": finite(between[1]) if between else None,
                "separated": interval is not None and interval[0] > 0,
            }
        )
    return found


def _own_seeds(setting_table: SettingTable, setting: int) -> tuple[float, float]:
    """Standard error over seeds, and its degrees of freedom, of a setting's own figure: their whole spread counts."""
    sd, weights = setting_table.seed_sd, setting_table.rule.weights[setting]
    return sd.total * float(np.linalg.norm(weights)), sd.total_df


def _shared_seeds(
    setting_table: SettingTable, setting: int, winner: int, contrast: Array
) -> tuple[float, float] | None:
    """The same of a difference to the winner, on shared seeds; None where their spread is unknown."""
    sd, size = setting_table.seed_sd, float(np.linalg.norm(contrast))
    if not setting_table.confirmed(setting, winner):
        return sd.single * size, sd.single_df
    return None if sd.residual is None else (sd.residual * size, sd.residual_df)


def _tail(setting_table: SettingTable, setting: int, winner: int) -> float:
    stated, seeds = setting_table.separation, setting_table.seeds
    if not setting_table.confirmed(setting, winner):
        return pair_tail(len(setting_table.settings), stated.alpha)
    replicated = sum(number > 0 for number in seeds)
    rounds = planned_rounds(replicated, stated.rounds, stated.budget)
    return round_tail(replicated, min(seeds[setting], seeds[winner]), rounds, stated.alpha)


def _contrast(setting_table: SettingTable, setting: int, winner: int) -> Array:
    """(trials,): how the difference between a setting and the winner is made from the trials' objectives.

    Where both have replicates these are compared, blocked by seed. Else their search trials are, which share the
    sweep's seed; what the winner owes to having been picked by its own is paid for by the simultaneous intervals.
    """
    weights = setting_table.rule.weights
    if setting_table.confirmed(setting, winner):
        return weights[setting] - weights[winner]
    own = np.array([[trial == setting_table.settings[k] for trial in setting_table.trials] for k in (setting, winner)])
    return own[0].astype(float) - own[1]


def _error(
    score_matrix: ScoreMatrix, resampled: Array, seeds: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Joint standard error of items (from their resamples) and seeds, and its df; None where either is unknown."""
    items, item_df = float(np.std(resampled, ddof=1)), sum(clusters - 1 for clusters in score_matrix.design.clusters)
    return standard_error(items, item_df, *seeds) if seeds and math.isfinite(items) else None


def _interval(value: float, error: tuple[float, float] | None, tail: float) -> list[float] | None:
    if error is None:
        return None
    reach = critical_value(tail, error[1]) * error[0]
    return [value - reach, value + reach]


def _weights(settings: list[str], trials: list[str], fresh: list[str], replicates: Replicates) -> Array:
    """(settings, trials): a replicated setting's row from the replicates, any other's from its search trial."""
    weights = np.zeros((len(settings), len(trials)))
    columns = [trials.index(name) for name in fresh]
    for index, name in enumerate(settings):
        if name in replicates.settings:
            weights[index, columns] = replicates.weights[replicates.settings.index(name)]
        else:
            weights[index, trials.index(name)] = 1.0
    return weights


def _at_its_steps(score_matrix: ScoreMatrix, replicate: str, search: str) -> tuple[Indices, Indices]:
    """Columns of a replicate and of its search trial at the steps that both were scored at; see `Rule.read_at`.

    None where the step that the search trial was best at is not among them.
    """
    own, its = (
        {score_matrix.candidates[k].step: k for k in _columns(score_matrix, name)} for name in (replicate, search)
    )
    objectives = score_matrix.objectives()
    best = min(its, key=lambda step: (objectives[its[step]], step))
    steps = sorted(own.keys() & its.keys()) if best in own else []
    return np.array([own[step] for step in steps], dtype=np.intp), np.array(
        [its[step] for step in steps], dtype=np.intp
    )


def _columns(score_matrix: ScoreMatrix, trial_id: str) -> list[int]:
    return [k for k, candidate in enumerate(score_matrix.candidates) if candidate.trial_id == trial_id]


def _seed(trial: Trial) -> str:
    return f"unknown, of {trial.trial_id}" if trial.seed is None else str(trial.seed)
