"""PURE. How sure must it be that one setting is worse than another? One rule, for the search and for replicates.

Which setting is lowest is known only when all are scored, so every ordered pair of settings is a comparison that might
have been made. Each gets an equal part of `alpha` (Bonferroni), hence: whatever is compared with whatever, one of two
equal settings is called worse with probability `alpha` at most, and the truly best one is called worse than the lowest
with that probability at most.

Replicates are looked at after each round. The looks share `alpha` too, unequally (the error spending of Lan & DeMets,
Biometrika 70 (1983)): a part that grows with the square of the round. Equal parts waste half of it: before the third
round a standard deviation of one to three degrees of freedom lets no likely difference through
(`docs/decisions/0009-confirm-and-search.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

ROUNDS = 4
"""Rounds of replicates at most."""

ALPHA = 0.05
"""`confirm.alpha` where the config doesn't say."""


@dataclass(frozen=True)
class Separation:
    """What a sweep's config says of telling settings apart; `confirm.*`."""

    alpha: float = ALPHA  # probability of calling one of two equal settings worse, over all settings and rounds
    # stated standard deviation of a setting's objective between seeds, nats a token; None where unknown
    seed_sd: float | None = None
    rounds: int = ROUNDS  # rounds of replicates at most, 1 to `ROUNDS`
    budget: int | None = None  # replicates at most; None where the config doesn't say


def pair_tail(settings: int, alpha: float = ALPHA) -> float:
    """Tail probability of each of the one-sided comparisons between settings; the ends of intervals that hold together.

    Args:
        settings: Settings that compete, 1 and up; a single one has as wide an interval as one of two.
        alpha: For all comparisons together, between 0 and 1.
    """
    return alpha / max(2, settings * (settings - 1))


def round_tail(settings: int, round_: int, rounds: int, alpha: float = ALPHA) -> float:
    """The same for a look at the replicates of settings that had `round_` rounds each.

    Args:
        settings: Settings that replicates were begun of, 1 and up.
        round_: The round, from 1; beyond `rounds` it counts as the last.
        rounds: Rounds planned, 1 and up.
        alpha: For all comparisons and all looks together.
    """
    whole = sum(number**2 for number in range(1, rounds + 1))
    return pair_tail(settings, alpha) * min(round_, rounds) ** 2 / whole


def planned_rounds(settings: int, rounds: int, budget: int | None) -> int:
    """Rounds that a budget pays for while no setting drops out; 1 at least, `rounds` at most."""
    return rounds if budget is None else max(1, min(rounds, budget // max(1, settings)))
