"""PURE. How sure it must be that one setting is worse than another: one rule, for the search and for replicates.

The lowest setting is known only once all are scored, so every ordered pair of settings is a comparison that might have
been made. Each gets an equal part of `alpha` (Bonferroni). One of two equal settings is then called worse with
probability `alpha` at most, over all comparisons; and so is the truly best one against the lowest.

Replicates of two settings are tested once, after the last planned round. In 500 replays of real luck, four rounds told
apart gaps of 1, 2 and 4 times the sd between seeds in 18, 50 and 94 % so; with a test after each round in 11, 37 and
84 %. Three settings and more are tested after each round, for one that drops out leaves its replicates to the others.
These tests share `alpha` too, by error spending (Lan & DeMets, Biometrika 70 (1983)): each gets a part that grows with
the square of the round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ROUNDS = 4  # rounds of replicates at most
ALPHA = 0.05  # `confirm.alpha` where the config doesn't say
# `confirm.budget: auto`: two settings with two more seeds each, where so many trials were searched. In replays on LR
# surfaces kept aside, 12 trials and 4 replicates named as good a setting as 16 and 8: regret 1.00 (0.81-1.12) of it.
AUTO_BUDGET, AUTO_FROM_TRIALS = 4, 12
LEAST_ROUNDS = 3  # rounds that a budget should pay for, rather than for a third or fourth setting; ours

Looks = Literal["auto", "every_round"]


@dataclass(frozen=True)
class Separation:
    """When settings count as different, by the config's `confirm.*`."""

    alpha: float = ALPHA  # probability of calling one of two equal settings worse, over all settings and rounds
    seed_sd: float | None = None  # stated sd of a setting's objective between seeds, nats a token; None where unknown
    rounds: int = ROUNDS  # rounds of replicates at most, 1 to `ROUNDS`
    budget: int | None = None  # replicates at most; None where the config doesn't say
    looks: Looks = "auto"  # "every_round": two settings, too, are tested after each round


def pair_tail(settings: int, alpha: float = ALPHA) -> float:
    """Tail probability of each one-sided comparison between settings, for intervals that hold simultaneously.

    Args:
        settings: Settings that compete, 1 and up; a single one has as wide an interval as one of two.
        alpha: For all comparisons together, between 0 and 1.
    """
    return alpha / max(2, settings * (settings - 1))


def round_tail(settings: int, round_: int, rounds: int, alpha: float = ALPHA, looks: Looks = "auto") -> float:
    """The same for a test of settings that have replicates of `round_` rounds each.

    Args:
        settings: Settings that replicates were begun of, 1 and up.
        round_: The round, from 1; beyond `rounds` it counts as the last.
        rounds: Rounds planned, 1 and up.
        alpha: For all comparisons and all rounds together.
        looks: When two settings are tested, as in `Separation`.

    Returns:
        0 where no test is made after that round.
    """
    if settings <= 2 and looks == "auto":
        return pair_tail(settings, alpha) if round_ >= rounds else 0.0
    # Equal parts would waste half of alpha: before the third round an sd of one to three degrees of freedom lets no
    # likely difference through (docs/decisions/0009-confirm-and-search.md).
    whole = sum(number**2 for number in range(1, rounds + 1))
    return pair_tail(settings, alpha) * min(round_, rounds) ** 2 / whole


def planned_rounds(settings: int, rounds: int, budget: int | None) -> int:
    """Rounds that a budget pays for while no setting drops out; 1 at least, `rounds` at most."""
    return rounds if budget is None else max(1, min(rounds, budget // max(1, settings)))


def replicates_at_most(budget: int | Literal["auto"], trials: int) -> int:
    """`confirm.budget` as a number, by `search.trials`: "auto" is `AUTO_BUDGET`, or 0 below `AUTO_FROM_TRIALS`."""
    if budget != "auto":
        return budget
    return AUTO_BUDGET if trials >= AUTO_FROM_TRIALS else 0


def contenders_at_most(limit: int, budget: int) -> int:
    """Settings that a budget gives `LEAST_ROUNDS` rounds each: two at least, `limit` at most."""
    return min(limit, max(2, budget // LEAST_ROUNDS))
