"""PURE. The smallest true difference between two settings that a confirmation is likely to show."""

from __future__ import annotations

import math

import scipy.special  # not scipy.stats, which takes a second to import

from analysis.stats.multiple_comparisons import ALPHA, Looks, round_tail
from analysis.stats.seed_variance import STATED_DF, critical_value

POWER = 0.8  # usual in the design of experiments


def detectable_gap(
    settings: int, rounds: int, alpha: float = ALPHA, stated: bool = False, looks: Looks = "auto"
) -> float | None:
    """The true gap of two settings that the test after the last round shows with probability `POWER`.

    `t = (gap + noise) / (s sqrt(2 / rounds))` follows the noncentral t (Johnson, Kotz & Balakrishnan, Continuous
    Univariate Distributions 2 (1995), ch. 31). Tests after earlier rounds add a little to it; the error of the held-out
    items, which the leaderboard counts too, takes some away.

    Args:
        settings: Contenders, 2 and up.
        rounds: Replicates of each, 1 and up.
        alpha: For all comparisons and all rounds together.
        stated: Whether the sd between seeds is stated (`confirm.seed_sd`).
        looks: `confirm.looks`.

    Returns:
        In units of the sd of one replicate that settings and seeds leave; None where nothing tells that sd.
    """
    df = (settings - 1) * (rounds - 1) + (STATED_DF if stated else 0)
    if df == 0:
        return None
    critical = critical_value(round_tail(settings, rounds, rounds, alpha, looks), df)
    return float(scipy.special.nctdtrinc(df, 1 - POWER, critical)) * math.sqrt(2 / rounds)
