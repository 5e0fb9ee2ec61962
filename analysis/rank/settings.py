"""The setting table: which trials count for each setting, and which differences exceed the noise of items and seeds.

A setting is named by its search trial. Its complete replicates (`kind: replicate`, another seed) are folded into it.
Settings rank by what all trials together say of them (`analysis.rank.posterior`). Where trials are too few for that,
they rank by their scores: once a setting has replicates only they count, and it ranks before those without, because a
single score that was picked as the lowest of many is biased low. Settings of which a replicate diverged rank after all
stable ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.rank.posterior import Posterior, posterior_of
from analysis.rank.score_matrix import ScoreMatrix
from analysis.records.sweep import Trial
from analysis.stats.bootstrap import Array
from analysis.stats.multiple_comparisons import Separation
from analysis.stats.seed_variance import Replicates, SeedSd, arrange
from analysis.stats.winner_selection import Indices, Rule


@dataclass(frozen=True)
class SettingTable:
    """The settings that compete."""

    matrix: ScoreMatrix  # the candidates that can be ranked
    settings: tuple[str, ...]  # their search trials, sorted
    trials: tuple[str, ...]  # (trials,) ids in the order of `rule`: search trials and replicates with a candidate
    rule: Rule  # how a winner is chosen: by the posterior's weights, or by `means`
    means: Array  # (settings, trials); `means @ trials' figures` are the scores: over replicates where there are some
    posterior: Posterior | None  # what all trials together say; None where they are too few
    seeds: tuple[int, ...]  # (settings,) number of complete replicates; 0 for a setting that has only its search trial
    diverged: tuple[int, ...]  # (settings,) number of replicates that diverged
    seed_sd: SeedSd  # spread between seeds, and its source
    blocked: bool  # whether the replicated settings' means are adjusted for seeds
    separation: Separation  # when settings count as different, by the config
    begun: int  # number of settings that replicates were begun of, however these ended

    def tier(self, setting: int) -> tuple[bool, bool]:
        """Sort key that precedes the figure: stable settings first, then, without a posterior, replicated ones."""
        return self.diverged[setting] > 0, self.posterior is None and self.seeds[setting] == 0

    def confirmed(self, setting: int, other: int) -> bool:
        """Whether two settings can be compared by their replicates."""
        return self.seeds[setting] > 0 and self.seeds[other] > 0


def make_setting_table(
    trials: Sequence[Trial], matrix: ScoreMatrix, separation: Separation, notes: list[str]
) -> SettingTable | None:
    """Finds the settings and their replicates.

    Args:
        trials: All that ended.
        matrix: The candidates that can be ranked.
        separation: When settings count as different, by the config.
        notes: Replicates that can't be counted are added here.

    Returns:
        None where no search trial has a checkpoint that can be ranked.
    """
    by_id = {trial.trial_id: trial for trial in trials}
    ranked = sorted({candidate.trial_id for candidate in matrix.candidates})
    settings = [name for name in ranked if by_id[name].kind != "replicate"]
    if not settings:
        return None
    parent = {name: str(by_id[name].replicate_of) for name in ranked if by_id[name].kind == "replicate"}
    read_at = {name: _shared_steps(matrix, name, parent[name]) for name in parent if parent[name] in settings}
    fresh = [name for name in read_at if len(read_at[name][0])]
    replicates = arrange([parent[name] for name in fresh], [_seed(by_id[name]) for name in fresh])
    diverged = [sum(t.replicate_of == name and t.state == "diverged" for t in trials) for name in settings]
    seeds = [sum(parent[replicate] == name for replicate in fresh) for name in settings]
    place = {name: k for k, name in enumerate(settings)} | {name: settings.index(parent[name]) for name in fresh}
    means = _weights(settings, ranked, fresh, replicates)
    rule = _score_rule(matrix, ranked, place, means, {name: read_at[name] for name in fresh})
    figures = rule.trial_figures(matrix.objectives()[None, :])[0]
    posterior = posterior_of(settings, ranked, rule.setting_of.tolist(), figures, by_id)
    seed_sd = replicates.seed_sd(np.array([figures[ranked.index(name)] for name in fresh]), separation.seed_sd)
    blocked = bool(fresh) and replicates.blocked
    begun = len({trial.replicate_of for trial in trials if trial.kind == "replicate"})
    notes += _not_counted(parent, read_at.keys(), fresh)
    if fresh and not blocked:
        notes.append("the replicates' seeds are not shared between settings: their means are not adjusted for seeds")
    notes += _diverged(settings, diverged)
    table = SettingTable(
        matrix=matrix,
        settings=tuple(settings),
        trials=tuple(ranked),
        rule=rule if posterior is None else replace(rule, weights=posterior.weights),
        means=means,
        posterior=posterior,
        seeds=tuple(seeds),
        diverged=tuple(diverged),
        seed_sd=seed_sd,
        blocked=blocked,
        separation=separation,
        begun=begun,
    )
    tiers = [table.tier(k) for k in range(len(settings))]
    eligible = np.array([tier == min(tiers) for tier in tiers])
    return replace(table, rule=replace(table.rule, eligible=eligible))


def _score_rule(
    matrix: ScoreMatrix,
    trials: Sequence[str],
    place: Mapping[str, int],
    means: Array,
    read_at: Mapping[str, tuple[Indices, Indices]],
) -> Rule:
    """The rule that goes by the settings' scores, before any is left out as not stable.

    Args:
        matrix: The candidates.
        trials: Ids of their trials.
        place: Index of the setting of each trial that competes.
        means: (settings, trials) of the scores.
        read_at: Where each replicate is read, by id; see `Rule.read_at`.
    """
    return Rule(
        trial_of=np.array([trials.index(candidate.trial_id) for candidate in matrix.candidates], dtype=np.intp),
        setting_of=np.array([place.get(name, -1) for name in trials], dtype=np.intp),
        weights=means,
        eligible=np.ones(len(means), bool),
        read_at={trials.index(name): columns for name, columns in read_at.items()},
    )


def _diverged(settings: Sequence[str], diverged: Sequence[int]) -> Iterator[str]:
    for name, count in zip(settings, diverged, strict=True):
        if count:
            yield f"{name}: {count} replicates diverged; it ranks behind the settings of which none did"


def _not_counted(parent: Mapping[str, str], ranked: Collection[str], fresh: Collection[str]) -> Iterator[str]:
    """Notes on replicates, by id with their settings' in `parent`, that are not among the `fresh` ones."""
    for name, setting in parent.items():
        if name not in ranked:
            yield f"{name} replicates {setting}, which has no rank, and does not count"
        elif name not in fresh:
            yield f"{name} was not scored at the step that {setting} was best at, and does not count"


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


def _shared_steps(matrix: ScoreMatrix, replicate: str, search: str) -> tuple[Indices, Indices]:
    """Columns of a replicate and of its search trial at the steps that both were scored at; see `Rule.read_at`.

    Empty where the step that the search trial was best at is not among them.
    """
    own, its = (
        {candidate.step: k for k, candidate in enumerate(matrix.candidates) if candidate.trial_id == name}
        for name in (replicate, search)
    )
    objectives = matrix.objectives()
    best = min(its, key=lambda step: (objectives[its[step]], step))
    steps = sorted(own.keys() & its.keys()) if best in own else []
    return np.array([own[step] for step in steps], np.intp), np.array([its[step] for step in steps], np.intp)


def _seed(trial: Trial) -> str:
    # An unknown seed is shared with no other trial.
    return f"unknown, of {trial.trial_id}" if trial.seed is None else str(trial.seed)
