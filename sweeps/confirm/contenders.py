"""PURE. Which settings get replicates: those that might be the best."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Ours: rounds that a budget should pay for, rather than for more contenders; two rounds separate almost nothing.
LEAST_ROUNDS = 3


def choose_contenders(
    ranked: Sequence[str], tied: Collection[str], limit: int, budget: int, seed_sd: float | None
) -> tuple[str, ...]:
    """The settings that might be the best, by the search's leaderboard, in the order of `ranked`.

    Args:
        ranked: The settings that have complete trials, lowest objective first.
        tied: Those not significantly worse than the first.
        limit: Contenders at most, 2 and up.
        budget: Replicates at most; there are no more contenders than it can give `LEAST_ROUNDS` each, but for two.
        seed_sd: Stated standard deviation of a setting's objective between seeds, nats a token; None where unknown.

    Returns:
        With fewer than two there is nothing to confirm.
    """
    # Without a stated sd, the leaderboard's ties rest on the prior, which may be far too low for this model. The next
    # best contend as well, so that no winner is named before replicates have measured the spread.
    able = [setting for setting in ranked if seed_sd is None or setting in tied or setting == ranked[0]]
    return tuple(able[: min(limit, max(2, budget // LEAST_ROUNDS))])
