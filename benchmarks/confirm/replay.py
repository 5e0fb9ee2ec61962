"""A confirmation by the sweep's own code, on settings with known true objectives: its verdict and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats.qmc import Sobol

from analysis.stats.multiple_comparisons import pair_tail
from analysis.stats.seed_variance import STATED_DF, critical_value
from benchmarks.confirm.seed_noise import SeedNoise
from benchmarks.selection.replay import Case, Evaluated
from sweeps.confirm.contenders import choose_contenders
from sweeps.confirm.replicates import Replicate
from sweeps.confirm.rounds import Rules, State, Verdict, plan_round, verdict

CONTENDERS, BUDGET = 4, 16  # `confirm.contenders`, and what four rounds of them cost
EPSILON_SDS = 0.5  # a tie is known once settings are compared to half a seed sd, as errors are counted
DRAWN = 256


@dataclass(frozen=True)
class ReplayNoise:
    """What seeds add in one replay."""

    kept: SeedNoise  # real noise
    sd: float  # its standard deviation, nats a token
    number: int  # the replay's; seeds the draws

    @property
    def window(self) -> int:
        """Window of settings whose noise this replay draws."""
        return self.number % len(self.kept.residual)

    def search(self, trials: int) -> np.ndarray:
        """Noise of search trials, (trials,) in nats a token."""
        return self.sd * self.kept.search(np.random.default_rng([self.number, 0]), self.window, trials)

    def round(self, seed: int, contenders: int) -> np.ndarray:
        """Noise of a round's replicates, (contenders,) in nats a token."""
        return self.sd * self.kept.round(np.random.default_rng([self.number, seed]), self.window, contenders)


def make_rules(sd: float, stated: bool) -> Rules:
    """The config's defaults with a budget, `epsilon` and, if stated, the seed sd."""
    return Rules(budget=BUDGET, epsilon=EPSILON_SDS * sd, seed_sd=sd if stated else None)


def candidates_of(scores: Mapping[str, float], rules: Rules) -> tuple[str, ...]:
    """Picks the contenders by the leaderboard's rule, for settings with one trial each and no noise of items.

    Args:
        scores: Each setting's objective in the search, nats a token.
        rules: Rules of the confirmation.
    """
    ranked = sorted(scores, key=lambda setting: (scores[setting], setting))
    # Without a stated sd the leaderboard calls no setting different from another.
    tail = pair_tail(len(ranked), rules.alpha)
    reach = math.inf if rules.seed_sd is None else critical_value(tail, STATED_DF) * math.sqrt(2.0) * rules.seed_sd
    tied = {setting for setting in ranked[1:] if scores[setting] - scores[ranked[0]] <= reach}
    return choose_contenders(ranked, tied, CONTENDERS, rules.budget, rules.seed_sd)


def confirm(truth: Mapping[str, float], contenders: Sequence[str], noise: ReplayNoise, rules: Rules) -> Verdict:
    """Trains rounds until the sweep's own code plans none.

    Args:
        truth: True objective of each contender, nats a token.
        contenders: Settings, the best of the search first.
        noise: Noise of seeds.
        rules: Rules of the confirmation.
    """
    found: list[Replicate] = []
    while True:
        state = State(tuple(contenders), 0, tuple(found), rules)
        planned = plan_round(state)
        if not planned:
            return verdict(state)
        added = noise.round(planned[0][1], len(contenders))
        for setting, seed in planned:
            objective = truth[setting] + float(added[contenders.index(setting)])
            found.append(Replicate(setting, seed, objective))


def named(found: Verdict) -> str:
    """The winner or the first of a tie: the setting that would be exported."""
    return found.winner or found.tied[0]


def is_separated(found: Verdict) -> bool:
    """Whether the verdict calls a setting worse than another."""
    return found.winner is not None or any(standing.why == "worse" for standing in found.standings)


def covered(found: Verdict, truth: Mapping[str, float]) -> list[bool]:
    """For each interval of a difference to the first setting, whether it holds the true one."""
    first = truth[found.standings[0].setting]
    shown = [(standing.interval, truth[standing.setting] - first) for standing in found.standings]
    return [interval[0] <= gap <= interval[1] for interval, gap in shown if interval is not None]


@dataclass(frozen=True)
class Choice:
    """What was named after a search, with replicates, and without for as many steps; regrets in seeds' sd."""

    confirmed: float  # true regret of the winner, or of the first of a tie
    single: float  # true regret of the lowest single score among as many search trials as search and replicates cost
    spent: int  # replicates trained
    covered: list[bool]  # as `covered` gives
    tie: bool  # whether it ended without a winner


def after_search(case: Case, seen: Sequence[Evaluated], searched: int, noise: ReplayNoise, rules: Rules) -> Choice:
    """Confirms the first trials of a search, against the choice by single score after more search.

    Args:
        case: The surface searched.
        seen: Trials of the search, at least `searched` + the budget.
        searched: Trials before the confirmation.
        noise: Noise of seeds on replicates.
        rules: Rules of the confirmation.
    """
    stable = {f"t{i:02}": one for i, one in enumerate(seen[:searched]) if one.true < case.surface.base}
    truth = {setting: one.true for setting, one in stable.items()}
    contenders = candidates_of({setting: one.noisy for setting, one in stable.items()}, rules)
    found = confirm(truth, contenders, noise, rules)
    lowest = min(seen[: searched + found.spent], key=lambda one: one.noisy)
    regrets = [(true - case.lowest) / noise.sd for true in (truth[named(found)], lowest.true)]
    return Choice(regrets[0], regrets[1], found.spent, covered(found, truth), found.winner is None)


def drop(case: Case) -> float:
    """Median of the stable settings' objectives less the minimum, nats a token: how much the choice matters."""
    ends, losses = case.config.space.ends(), []
    for share in Sobol(len(ends), seed=0).random(DRAWN):
        params = {
            name: low * (high / low) ** float(x) for (name, (low, high)), x in zip(ends.items(), share, strict=True)
        }
        if not case.surface.diverges(params):
            losses.append(case.surface.loss(params))
    return float(np.median(losses)) - case.lowest
