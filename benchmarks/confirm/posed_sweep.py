"""A finished sweep with known truth, ranked by the product's own setting table as `leaderboard()` ranks its folder.

No file is read, and no part of the leaderboard that decides nothing is made: that takes a seventh of the time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.rank.candidates import Candidate
from analysis.rank.rows import order_of
from analysis.rank.score_matrix import ScoreMatrix
from analysis.rank.setting_figures import setting_figures
from analysis.rank.settings import make_setting_table
from analysis.records.sweep import Trial
from analysis.stats.bootstrap import Bootstrap, make_design
from analysis.stats.multiple_comparisons import AUTO_BUDGET, Separation
from benchmarks.confirm.recorded_luck import RecordedLuck
from trainables.evaluation.objective import Measure

STEPS = 32
CONTENDERS = 2
ROUNDS = AUTO_BUDGET // CONTENDERS  # of replicates
# `confirm` of the defaults.
DEFAULT = Separation(budget=AUTO_BUDGET)


@dataclass(frozen=True)
class PosedTrial:
    """A trial that ended, with one checkpoint at its end if it is complete."""

    trial_id: str
    decades: float  # log10 of its peak LR
    seed: int
    losses: np.ndarray | None  # (items,) nats a token; None for a trial that was not trained to the end
    replicate_of: str | None = None


@dataclass(frozen=True)
class Board:
    """What the leaderboard decides, settings by their search trials."""

    named: str  # the winning setting
    ranked: tuple[str, ...]  # all, best first
    worse: tuple[str, ...]  # those that are called worse than the named one


def rank(trials: Sequence[PosedTrial], areas: np.ndarray, base: np.ndarray) -> Board:
    """Ranks a sweep.

    Args:
        trials: In any order.
        areas: (items,) index of each item's area.
        base: (items,) losses of the base model.
    """
    complete = [(trial.trial_id, trial.losses) for trial in trials if trial.losses is not None]
    complete.sort(key=lambda trial: trial[0])
    nll, draws = np.stack([losses for _, losses in complete], axis=1), _draws(tuple(areas.tolist()))
    matrix = matrix_of_losses([(name, STEPS) for name, _ in complete], nll, base, draws)
    table = make_setting_table([_as_read(trial) for trial in trials], matrix, DEFAULT, [])
    assert table
    winner = int(table.rule.best_settings(matrix.objectives()[None, :])[0])
    figures = setting_figures(table, winner, None)
    worse = [name for name, figure in zip(table.settings, figures, strict=True) if figure["separated"]]
    ranked = [table.settings[k] for k in order_of(table, figures)]
    return Board(table.settings[winner], tuple(ranked), tuple(worse))


def matrix_of_losses(
    checkpoints: Sequence[tuple[str, int]], nll: np.ndarray, base: np.ndarray, draws: Bootstrap
) -> ScoreMatrix:
    """A score matrix of losses alone.

    Args:
        checkpoints: Trial and step of each column.
        nll: (items, checkpoints) losses.
        base: (items,) losses of the base model.
        draws: Of the same items.
    """
    return ScoreMatrix(
        candidates=tuple(Candidate(trial, step, None, {}, {}) for trial, step in checkpoints),
        keys=tuple((draws.design.areas[area], str(k)) for k, area in enumerate(draws.design.area_of)),
        nll=nll,
        base_nll=base,
        tokens=np.ones(len(base)),
        draws=draws,
        values=nll,
        base_values=base,
        resampled=draws.objective(nll),
        measure=Measure(),
    )


@functools.cache
def _draws(areas: tuple[int, ...]) -> Bootstrap:
    names = [f"area{area}" for area in areas]
    return Bootstrap(make_design(names, [str(k) for k in range(len(areas))], dict.fromkeys(names, 1.0)))


def _as_read(trial: PosedTrial) -> Trial:
    return Trial(
        trial_id=trial.trial_id,
        state="pruned" if trial.losses is None else "complete",
        kind="replicate" if trial.replicate_of else "search",
        replicate_of=trial.replicate_of,
        seed=trial.seed,
        params={"peak_lr": 10**trial.decades, "warmup_fraction": 0.05, "decay_floor": 4.5e-5},
    )


class World:
    """One posed sweep: LRs, seeds and items drawn at random, and what each setting is worth."""

    def __init__(self, luck: RecordedLuck, settings: int, items: int, seeds: int, number: int) -> None:
        draw = np.random.default_rng([settings, items, seeds, number])
        low, high = luck.decades[0], luck.decades[-1]
        # One setting in each of as many equal parts of the LRs' range, in random order.
        share = (draw.permutation(settings) + draw.uniform(size=settings)) / settings
        self.luck, self.decades = luck, low + (high - low) * share
        self.seeds = [luck.new_seed(draw) for _ in range(seeds + ROUNDS)]
        self.rotation = seeds
        self.items = luck.items(draw, items)
        self.common = luck.worth[:, -1].mean(axis=0)
        self.worth = np.zeros(settings)  # nats a token above the items' common losses

    def trial(self, setting: int, seed: int, replicate: bool = False) -> PosedTrial:
        """A trial of a setting under one of the seeds; replicates have those after the rotation."""
        decades, name = float(self.decades[setting]), f"t{setting + 1:04d}"
        losses = self.common + self.worth[setting] + self.luck.luck_of(decades, self.seeds[seed])
        label = f"{name}-s{seed}" if replicate else name
        return PosedTrial(label, decades, seed, losses[self.items], name if replicate else None)

    def search(self) -> list[PosedTrial]:
        return [self.trial(setting, setting % self.rotation) for setting in range(len(self.decades))]

    @property
    def peak_lrs(self) -> dict[str, float]:
        """Of each setting."""
        return {f"t{k:04d}": float(10**decades) for k, decades in enumerate(self.decades, 1)}

    def rank(self, trials: Sequence[PosedTrial]) -> Board:
        return rank(trials, self.luck.area_of[self.items], self.luck.base[self.items])
