"""Which settings replicates are spent on: those that might be the best. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

LEAST_ROUNDS = 3
"""Rounds that a budget should pay for, rather than for more contenders (ours): two rounds separate almost nothing."""


def choose_contenders(
    ranked: Sequence[str], tied: Collection[str], limit: int, budget: int, seed_sd: float | None
) -> tuple[str, ...]:
    """The settings that might be the best, by the search's leaderboard.

    They are those that it does not tell apart from the lowest, by the stated spread between seeds. Where none is stated
    it has this project's prior alone, which may be far too low for this model: then the next best contend as well, so
    that no winner is named before replicates have measured the spread.

    Args:
        ranked: The settings that complete trials speak for, lowest objective first.
        tied: Those not told apart from the first.
        limit: Contenders at most, 2 and up.
        budget: Replicates at most; there are no more contenders than it can give `LEAST_ROUNDS` each, but for two.
        seed_sd: Stated standard deviation of a setting's objective between seeds, nats a token; None where unknown.

    Returns:
        In the order of `ranked`; with fewer than two there is nothing to confirm.
    """
    able = [setting for setting in ranked if seed_sd is None or setting in tied or setting == ranked[0]]
    return tuple(able[: min(limit, max(2, budget // LEAST_ROUNDS))])
