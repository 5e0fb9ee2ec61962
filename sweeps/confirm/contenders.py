"""PURE. Which settings get replicates: those that might be the best, and differ enough to ask."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from analysis.stats.multiple_comparisons import contenders_at_most

# Least distance of two contenders' peak LRs. In replays the best two of 16 trials lay 0.07 decades apart (median) and
# truly differed by 0.1 times the sd between seeds: replicates of such a pair prove a tie that was known. Ours.
LEAST_DECADES = 0.15


def choose_contenders(
    ranked: Sequence[str],
    tied: Collection[str],
    limit: int,
    budget: int,
    seed_sd: float | None,
    peak_lrs: Mapping[str, float] | None = None,
) -> tuple[str, ...]:
    """The settings that might be the best, by the search's leaderboard, in the order of `ranked`.

    Args:
        ranked: The settings that have complete trials: the one that the leaderboard names, then in its order.
        tied: Those not significantly worse than the first.
        limit: Contenders at most, 2 and up.
        budget: Replicates at most; see `contenders_at_most`.
        seed_sd: Stated standard deviation of a setting's objective between seeds, nats a token; None where unknown.
        peak_lrs: Each setting's peak LR; None where the peak LR is not searched.

    Returns:
        With fewer than two there is nothing to confirm.
    """
    chosen: list[str] = []
    for setting in ranked:
        # Without a stated sd the search shows no setting to be worse: then all may contend.
        able = seed_sd is None or setting in tied or setting == ranked[0]
        if able and len(chosen) < contenders_at_most(limit, budget) and _is_apart(setting, chosen, peak_lrs):
            chosen.append(setting)
    return tuple(chosen)


def _is_apart(setting: str, chosen: Sequence[str], peak_lrs: Mapping[str, float] | None) -> bool:
    if peak_lrs is None:
        return True
    decades = (abs(math.log10(peak_lrs[setting] / peak_lrs[other])) for other in chosen)
    return all(distance > LEAST_DECADES - 1e-9 for distance in decades)  # a grid of such a distance may round below it
