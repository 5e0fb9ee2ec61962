"""One confirmation by the sweep's own code, on settings whose true objectives are known: what it said, what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats.qmc import Sobol

from analysis.stats.multiple_comparisons import pair_tail
from analysis.stats.seed_variance import STATED_DF, assumed_seed_sd, critical_value
from benchmarks.confirm.seed_luck import SeedLuck
from benchmarks.selection.replay import Case, Seen
from sweeps.confirm.contenders import choose_contenders
from sweeps.confirm.replicates import Replicate
from sweeps.confirm.rounds import Rules, State, Verdict, plan_round, verdict

CONTENDERS, BUDGET = 4, 16  # `confirm.contenders`, and what four rounds of them cost
EPSILON_SDS = 0.5  # a tie is known once settings are compared to half a seed sd, as errors are counted
DRAWN = 256


@dataclass(frozen=True)
class Luck:
    """What seeds add in one replay.

    Attributes:
        kept: Real luck.
        sd: Its standard deviation, nats a token.
        number: The replay's; seeds the draws.
    """

    kept: SeedLuck
    sd: float
    number: int

    @property
    def window(self) -> int:
        """Whose luck this replay has."""
        return self.number % len(self.kept.residual)

    def search(self, trials: int) -> np.ndarray:
        """(trials,) nats a token."""
        return self.sd * self.kept.search(np.random.default_rng([self.number, 0]), self.window, trials)

    def round(self, seed: int, contenders: int) -> np.ndarray:
        """(contenders,) nats a token."""
        return self.sd * self.kept.round(np.random.default_rng([self.number, seed]), self.window, contenders)


def make_rules(sd: float, stated: bool) -> Rules:
    """The config's defaults with a budget; `epsilon` and, where it is known, the seeds' sd in the surface's unit."""
    return Rules(budget=BUDGET, epsilon=EPSILON_SDS * sd, seed_sd=sd if stated else None)


def candidates_of(scores: Mapping[str, float], rules: Rules) -> tuple[str, ...]:
    """Who contends, by the leaderboard's rule for settings with one trial each and no noise of items.

    Args:
        scores: Each setting's objective in the search, nats a token.
        rules: Of the confirmation.
    """
    ranked = sorted(scores, key=lambda setting: (scores[setting], setting))
    df = math.inf if rules.seed_sd is None else STATED_DF
    reach = critical_value(pair_tail(len(ranked), rules.alpha), df) * math.sqrt(2.0) * assumed_seed_sd(rules.seed_sd)
    tied = {setting for setting in ranked[1:] if scores[setting] - scores[ranked[0]] <= reach}
    return choose_contenders(ranked, tied, CONTENDERS, rules.budget, rules.seed_sd)


def confirm(truth: Mapping[str, float], contenders: Sequence[str], luck: Luck, rules: Rules) -> Verdict:
    """Trains rounds as planned until none is.

    Args:
        truth: True objective of each contender, nats a token.
        contenders: The best of the search first.
        luck: What seeds add.
        rules: When it ends.
    """
    found: list[Replicate] = []
    while True:
        state = State(tuple(contenders), 0, tuple(found), rules)
        planned = plan_round(state)
        if not planned:
            return verdict(state)
        added = luck.round(planned[0][1], len(contenders))
        for setting, seed in planned:
            objective = truth[setting] + float(added[contenders.index(setting)])
            found.append(Replicate(setting, seed, objective))


def named(found: Verdict) -> str:
    """The winner, or the first of a tie: whose checkpoint is exported."""
    return found.winner or found.tied[0]


def is_separated(found: Verdict) -> bool:
    """Whether any setting is called worse than another."""
    return found.winner is not None or any(standing.why == "worse" for standing in found.standings)


def covered(found: Verdict, truth: Mapping[str, float]) -> list[bool]:
    """Of each interval for a difference to the first, whether it holds the true one."""
    first = truth[found.standings[0].setting]
    shown = [(standing.interval, truth[standing.setting] - first) for standing in found.standings]
    return [interval[0] <= gap <= interval[1] for interval, gap in shown if interval is not None]


@dataclass(frozen=True)
class Choice:
    """What was named after a search, with replicates, and without for as many steps; regrets in seeds' sd.

    Attributes:
        confirmed: True regret of the winner, or of the first of a tie.
        single: True regret of the lowest single score among as many search trials as search and replicates cost.
        spent: Replicates trained.
        covered: As `covered` gives.
        tie: Whether it ended without a winner.
    """

    confirmed: float
    single: float
    spent: int
    covered: list[bool]
    tie: bool


def after_search(case: Case, seen: Sequence[Seen], searched: int, luck: Luck, rules: Rules) -> Choice:
    """Confirms the first trials of a search, and looks at what its later ones would have brought instead.

    Args:
        case: The surface searched.
        seen: Trials of the search, at least `searched` + the budget.
        searched: Trials of the search that is confirmed.
        luck: What seeds add to replicates.
        rules: Of the confirmation.
    """
    stable = {f"t{i:02}": one for i, one in enumerate(seen[:searched]) if one.true < case.surface.base}
    truth = {setting: one.true for setting, one in stable.items()}
    contenders = candidates_of({setting: one.told for setting, one in stable.items()}, rules)
    found = confirm(truth, contenders, luck, rules)
    lowest = min(seen[: searched + found.spent], key=lambda one: one.told)
    regrets = [(true - case.lowest) / luck.sd for true in (truth[named(found)], lowest.true)]
    return Choice(regrets[0], regrets[1], found.spent, covered(found, truth), found.winner is None)


def drop(case: Case) -> float:
    """How much choosing matters on a surface: the median over its space less the minimum, nats a token.

    Settings that diverge are left out.
    """
    ends, losses = case.config.space.ends(), []
    for share in Sobol(len(ends), seed=0).random(DRAWN):
        params = {
            name: low * (high / low) ** float(x) for (name, (low, high)), x in zip(ends.items(), share, strict=True)
        }
        if not case.surface.diverges(params):
            losses.append(case.surface.loss(params))
    return float(np.median(losses)) - case.lowest
