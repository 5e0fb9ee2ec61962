"""Which settings replicates are spent on: those that might be the best. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from scipy.special import ndtri


def choose_contenders(
    scores: Mapping[str, float], item_sd: Mapping[str, float], seed_sd: float, limit: int = 4, alpha: float = 0.05
) -> tuple[str, ...]:
    """The settings that might be the best, by the search's scores.

    A setting is one if the lower end of its difference to the lowest score, with the noise of the held-out items and of
    the seeds of both, is not above 0; one-sided, simultaneous over all settings (Bonferroni).

    Args:
        scores: Finite objective of each setting, nats a token, lower is better.
        item_sd: Standard error of each setting's difference to the lowest, over held-out items (bootstrap).
        seed_sd: Sd of a setting's objective between seeds.
        limit: Settings at most, lowest scores first.
        alpha: Probability of leaving the best one out, but for `limit`.

    Returns:
        The lowest first; ties by name. Nothing is to be confirmed where it is alone.

    Raises:
        ValueError: There is no setting, or a score is not finite.
    """
    if not scores or not all(math.isfinite(score) for score in scores.values()):
        raise ValueError(f"scores must be finite, at least one, got {dict(scores)}")
    ordered = sorted(scores, key=lambda setting: (scores[setting], setting))
    best = ordered[0]
    quantile = float(ndtri(1.0 - alpha / max(len(scores) - 1, 1)))

    def may_be_best(setting: str) -> bool:
        noise = math.hypot(item_sd[setting], math.sqrt(2.0) * seed_sd)
        return setting == best or scores[setting] - scores[best] <= quantile * noise

    return tuple(setting for setting in ordered if may_be_best(setting))[:limit]
