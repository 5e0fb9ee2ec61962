"""Which replicates to train next, and when settings are told apart, or tied. Pure.

Scores of the search choose the contenders and decide nothing else: the lowest of many noisy scores is low by luck too.
What decides are fresh replicates. Each round gives all contenders that are left the same new seed (sample order and
adapter), so that what a seed does to all of them cancels (a randomised block design: Montgomery, Design and Analysis of
Experiments, ch. 4). Rounds drop the contenders that are worse for certain (sequential elimination: Paulson 1964, Annals
of Mathematical Statistics 35(1), 174-180; here with Bonferroni's bound over rounds and pairs of contenders).

How certain is the leaderboard's rule (`analysis.stats.multiple_comparisons`). Here it is asked of the spread between
seeds alone, for no replicate narrows what the held-out items leave open; the leaderboard then asks it of both together.

Everything follows from the replicates that there are, so a sweep that was interrupted goes on from its ledger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from analysis.stats.multiple_comparisons import ALPHA, ROUNDS, planned_rounds, round_tail
from sweeps.confirm.replicates import Fit, Replicate, fit_replicates

INTERVAL = 0.95
"""Level of the intervals that a verdict shows."""

Ended = Literal["running", "separated", "tie", "rounds", "budget"]


@dataclass(frozen=True)
class Rules:
    """When a confirmation ends; `confirm.*` of the config.

    Attributes:
        budget: Replicates at most.
        rounds: Rounds at most, 1 to 4.
        epsilon: Nats a token; once settings are compared as closely as this, those that are left are a tie.
        alpha: Probability of a wrong separation, over all contenders and rounds.
        seed_sd: Stated sd of a setting's objective between seeds, nats a token; None where replicates alone tell it.
    """

    budget: int
    rounds: int = ROUNDS
    epsilon: float = 0.01
    alpha: float = ALPHA
    seed_sd: float | None = None


@dataclass(frozen=True)
class State:
    """A confirmation as far as it has come.

    Attributes:
        contenders: The settings, the best score of the search first.
        search_seed: The search's seed; round r uses the seed `search_seed` + r.
        replicates: All that have ended, in any order.
        rules: When it ends.
    """

    contenders: tuple[str, ...]
    search_seed: int
    replicates: tuple[Replicate, ...]
    rules: Rules

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
    """What replicates say of one contender.

    Attributes:
        setting: The contender.
        replicates: Fresh replicates that its mean is taken from.
        mean: Mean objective, nats a token; None without a replicate.
        behind: How much worse than the first, on the seeds that both have; None where they share none.
        interval: Of `behind`, at 95 %, for this one difference; None where the sd isn't known.
        dropped_in: Round after which it dropped out; None while it is left.
        why: Why it dropped out.
    """

    setting: str
    replicates: int
    mean: float | None
    behind: float | None
    interval: tuple[float, float] | None
    dropped_in: int | None
    why: Literal["worse", "diverged"] | None


@dataclass(frozen=True)
class Verdict:
    """What is known, and why it ended.

    Attributes:
        ended: "running" while a round is to be trained; "separated" (at most one is left); "tie" (compared closely
            enough, and still not told apart); "rounds" or "budget" (spent before that).
        winner: The one that is left; None where several are, or none.
        tied: All that are left where there are several, lowest mean first.
        standings: Of every contender: those that are left first, by mean.
        rounds: Rounds that are whole.
        sd: Residual sd of one replicate after settings and seeds are accounted for, nats a token; None if not known.
        df: Its degrees of freedom.
        half_width: Of the test that drops contenders, at the last round; None if the sd isn't known.
        spent: Replicates trained.
    """

    ended: Ended
    winner: str | None
    tied: tuple[str, ...]
    standings: tuple[Standing, ...]
    rounds: int
    sd: float | None
    df: float
    half_width: float | None
    spent: int


def plan_round(state: State) -> list[tuple[str, int]]:
    """The replicates to train next, as (setting, seed): what is missing of the round that has begun, else the next.

    Empty once the confirmation has ended; a round that the budget can't pay whole isn't begun.
    """
    course = _follow(state)
    if course.ended != "running":
        return []
    have = {(replicate.setting, replicate.seed) for replicate in state.replicates}
    seed = state.search_seed + course.rounds + 1
    return [(setting, seed) for setting in course.left if (setting, seed) not in have]


def verdict(state: State) -> Verdict:
    """What the replicates of all whole rounds say; those of a round that is not whole are not looked at."""
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


Why = Literal["worse", "diverged"]


@dataclass
class _Course:
    """How the rounds went: who is left, who dropped out when and why."""

    left: list[str]
    dropped: dict[str, tuple[int, Why]]
    rounds: int
    ended: Ended


def _follow(state: State) -> _Course:
    """Goes through the rounds as they were decided, one after the other."""
    course = _Course(list(state.contenders), {}, 0, "running")
    have = {(replicate.setting, replicate.seed): replicate for replicate in state.replicates}
    while True:
        seed = state.search_seed + course.rounds + 1
        whole = all((setting, seed) in have for setting in course.left)
        course.ended = _ended(state, course, whole)
        if course.ended != "running" or not whole:
            return course
        course.rounds += 1
        for setting in list(course.left):
            if have[setting, seed].state == "diverged":
                _drop(course, setting, "diverged")
        for setting in _worse(state, course):
            _drop(course, setting, "worse")


def _drop(course: _Course, setting: str, why: Why) -> None:
    course.left.remove(setting)
    course.dropped[setting] = (course.rounds, why)


def _ended(state: State, course: _Course, next_is_whole: bool) -> Ended:
    """Whether to go on; a round that has been trained is looked at whatever the budget says now."""
    rules = state.rules
    if len(course.left) <= 1:
        return "separated"
    if course.rounds:
        width = _fit_of(state, course.rounds).half_width(_tail(state, course.rounds), course.rounds)
        if width is not None and width <= rules.epsilon:
            return "tie"
    if course.rounds >= _planned(state):
        return "rounds" if course.rounds >= rules.rounds else "budget"
    spent = sum(replicate.seed <= state.search_seed + course.rounds for replicate in state.replicates)
    return "budget" if not next_is_whole and spent + len(course.left) > rules.budget else "running"


def _worse(state: State, course: _Course) -> list[str]:
    """Those left that are worse than the lowest by more than t s sqrt(2 / r), t at this round's level."""
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
    """Of the replicates of whole rounds."""
    last = state.search_seed + rounds
    return fit_replicates((found for found in state.replicates if found.seed <= last), state.rules.seed_sd)


def _planned(state: State) -> int:
    return planned_rounds(len(state.contenders), state.rules.rounds, state.rules.budget)


def _tail(state: State, round_: int) -> float:
    """Of the test that drops contenders after a round."""
    return round_tail(len(state.contenders), round_, _planned(state), state.rules.alpha)


def _standing(fit: Fit, setting: str, first: str | None, dropped: tuple[int, Why] | None) -> Standing:
    mean = fit.mean(setting)
    behind, shared = fit.difference(setting, first) if first else (math.nan, 0)
    width = fit.half_width((1 - INTERVAL) / 2, shared) if setting != first else None
    return Standing(
        setting=setting,
        replicates=len(fit.seeds(setting)),
        mean=mean if math.isfinite(mean) else None,
        behind=behind if shared else None,
        interval=None if width is None else (behind - width, behind + width),
        dropped_in=dropped[0] if dropped else None,
        why=dropped[1] if dropped else None,
    )
