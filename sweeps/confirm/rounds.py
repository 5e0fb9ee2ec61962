"""PURE. Which replicates to train next, and when settings are separated or tied.

Scores of the search choose the contenders and decide nothing else: the lowest of many noisy scores is biased low. Fresh
replicates decide. Each round gives all remaining contenders the same new seed (sample order and adapter), so that its
common effect cancels (randomized blocks: Montgomery, Design and Analysis of Experiments, ch. 4). A round drops the
contenders that are significantly worse (sequential elimination: Paulson 1964, Annals of Mathematical Statistics 35(1),
174-180; here with Bonferroni's bound over rounds and pairs of contenders).

The test is the leaderboard's (`analysis.stats.multiple_comparisons`), but on the spread between seeds only: no
replicate narrows the error of the held-out items. The leaderboard then tests with both. All state follows from the
replicates, so an interrupted sweep goes on from its ledger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from analysis.stats.multiple_comparisons import ALPHA, ROUNDS, Looks, planned_rounds, round_tail
from sweeps.confirm.replicates import Fit, Replicate, fit_replicates

INTERVAL = 0.95  # level of the intervals that a verdict shows

Ended = Literal["running", "separated", "tie", "rounds", "budget"]
Why = Literal["worse", "diverged"]


@dataclass(frozen=True)
class Rules:
    """When a confirmation ends; `confirm.*` of the config."""

    budget: int  # replicates at most
    rounds: int = ROUNDS  # rounds at most, 1 to 4
    # Nats a token; contenders that are compared as closely as this without a difference are a tie
    epsilon: float = 0.01
    alpha: float = ALPHA  # probability of a wrong separation, over all contenders and rounds
    # Stated sd of a setting's objective between seeds, nats a token; None if only replicates tell it
    seed_sd: float | None = None
    looks: Looks = "auto"  # when two contenders are compared; see `analysis.stats.multiple_comparisons`


@dataclass(frozen=True)
class State:
    """A confirmation so far."""

    contenders: tuple[str, ...]  # the settings, the best score of the search first
    search_seed: int  # the search's seed; round r uses the seed `search_seed` + r
    replicates: tuple[Replicate, ...]  # all that have ended, in any order
    rules: Rules  # when it ends

    def __post_init__(self) -> None:
        strangers = {replicate.setting for replicate in self.replicates} - set(self.contenders)
        if strangers or len(set(self.contenders)) != len(self.contenders) or not self.contenders:
            raise ValueError(f"replicates must be of {self.contenders}, each named once, got {sorted(strangers)}")
        if not 1 <= self.rules.rounds <= ROUNDS:
            raise ValueError(f"rounds must be in 1 to {ROUNDS}, got {self.rules.rounds}")
        for replicate in self.replicates:
            if not 1 <= replicate.seed - self.search_seed <= ROUNDS:
                raise ValueError(f"a replicate's seed must be {self.search_seed} + its round, got {replicate.seed}")
            measured = replicate.objective is not None and math.isfinite(replicate.objective)
            if measured != (replicate.state == "complete"):
                raise ValueError(f"a complete replicate, and no other, has a finite objective, got {replicate}")


@dataclass(frozen=True)
class Standing:
    """One contender's figures, objectives in nats a token."""

    setting: str  # the contender
    replicates: int  # fresh replicates behind its mean
    mean: float | None  # mean objective; None without a replicate
    behind: float | None  # difference to the first, on the seeds that both have; None where they share none
    interval: tuple[float, float] | None  # of `behind`, at 95 %, for this one difference; None where the sd is unknown
    dropped_in: int | None  # round after which it dropped out; None while it remains
    why: Why | None  # why it dropped out


@dataclass(frozen=True)
class Verdict:
    """The outcome so far, and why it ended."""

    # "running" while a round is to be trained; "separated" (at most one remains); "tie" (compared closely enough
    # without a difference); "rounds" or "budget" (spent before that)
    ended: Ended
    winner: str | None  # the only one that remains; None where several do, or none
    tied: tuple[str, ...]  # all that remain where there are several, lowest mean first
    standings: tuple[Standing, ...]  # of every contender: those that remain first, by mean
    rounds: int  # complete rounds
    sd: float | None  # residual sd of one replicate after settings and seeds, nats a token; None if unknown
    df: float  # its degrees of freedom
    # Of the test that drops contenders, at the last round; None if the sd is unknown or no test was made
    half_width: float | None
    spent: int  # replicates trained


@dataclass
class _Course:
    """The rounds so far: remaining contenders, and (round, reason) of those dropped."""

    left: list[str]
    dropped: dict[str, tuple[int, Why]]
    rounds: int
    ended: Ended


def plan_round(state: State) -> list[tuple[str, int]]:
    """The replicates to train next, as (setting, seed): the rest of a round that has begun, else the next round.

    Empty once the confirmation has ended.
    """
    course = _follow(state)
    if course.ended != "running":
        return []
    have = {(replicate.setting, replicate.seed) for replicate in state.replicates}
    seed = state.search_seed + course.rounds + 1
    return [(setting, seed) for setting in course.left if (setting, seed) not in have]


def verdict(state: State) -> Verdict:
    """What the replicates of all complete rounds say; an incomplete round is ignored."""
    course = _follow(state)
    fit = _fit_of(state, course.rounds)
    left = sorted(course.left, key=lambda setting: (fit.mean(setting), state.contenders.index(setting)))
    first = left[0] if left else None
    out = sorted(course.dropped, key=lambda setting: (-course.dropped[setting][0], fit.mean(setting)))
    several = len(left) > 1
    return Verdict(
        ended=course.ended,
        winner=first if course.ended == "separated" else None,
        tied=tuple(left) if several else (),
        standings=tuple(_standing(fit, setting, first, course.dropped.get(setting)) for setting in [*left, *out]),
        rounds=course.rounds,
        sd=fit.sd,
        df=fit.df,
        half_width=fit.half_width(_tail(state, course.rounds), course.rounds) if several else None,
        spent=len(state.replicates),
    )


def _follow(state: State) -> _Course:
    # Replays the decisions round by round: a later replicate must not change what an earlier round decided.
    course = _Course(list(state.contenders), {}, 0, "running")
    have = {(replicate.setting, replicate.seed): replicate for replicate in state.replicates}
    while True:
        seed = state.search_seed + course.rounds + 1
        whole = all((setting, seed) in have for setting in course.left)
        course.ended = _ended(state, course, whole)
        if course.ended != "running" or not whole:
            return course
        course.rounds += 1
        diverged = [setting for setting in course.left if have[setting, seed].state == "diverged"]
        _drop(course, diverged, "diverged")
        _drop(course, _worse(state, course), "worse")


def _drop(course: _Course, settings: list[str], why: Why) -> None:
    for setting in settings:
        course.left.remove(setting)
        course.dropped[setting] = (course.rounds, why)


def _ended(state: State, course: _Course, next_is_whole: bool) -> Ended:
    rules = state.rules
    if len(course.left) <= 1:
        return "separated"
    if course.rounds:
        width = _fit_of(state, course.rounds).half_width(_tail(state, course.rounds), course.rounds)
        if width is not None and width <= rules.epsilon:
            return "tie"
    if course.rounds >= _planned(state):
        return "rounds" if course.rounds >= rules.rounds else "budget"
    # A round that the budget can't pay whole isn't begun; one that has been trained counts whatever the budget is now.
    spent = sum(replicate.seed <= state.search_seed + course.rounds for replicate in state.replicates)
    return "budget" if not next_is_whole and spent + len(course.left) > rules.budget else "running"


def _worse(state: State, course: _Course) -> list[str]:
    """The remaining contenders that are worse than the lowest by more than t s sqrt(2 / r)."""
    fit = _fit_of(state, course.rounds)
    known = [setting for setting in course.left if fit.seeds(setting)]
    if not known:
        return []
    first = min(known, key=lambda setting: (fit.mean(setting), state.contenders.index(setting)))
    worse = []
    for setting in known:
        behind, shared = fit.difference(setting, first)
        width = fit.half_width(_tail(state, course.rounds), shared)
        if setting != first and width is not None and behind > width:
            worse.append(setting)
    return worse


def _fit_of(state: State, rounds: int) -> Fit:
    last = state.search_seed + rounds
    return fit_replicates((found for found in state.replicates if found.seed <= last), state.rules.seed_sd)


def _planned(state: State) -> int:
    return planned_rounds(len(state.contenders), state.rules.rounds, state.rules.budget)


def _tail(state: State, round_: int) -> float:
    return round_tail(len(state.contenders), round_, _planned(state), state.rules.alpha, state.rules.looks)


def _standing(fit: Fit, setting: str, first: str | None, dropped: tuple[int, Why] | None) -> Standing:
    mean = fit.mean(setting)
    behind, shared = fit.difference(setting, first) if first else (math.nan, 0)
    width = fit.half_width((1 - INTERVAL) / 2, shared) if setting != first else None
    dropped_in, why = dropped or (None, None)
    return Standing(
        setting=setting,
        replicates=len(fit.seeds(setting)),
        mean=mean if math.isfinite(mean) else None,
        behind=behind if shared else None,
        interval=None if width is None else (behind - width, behind + width),
        dropped_in=dropped_in,
        why=why,
    )
