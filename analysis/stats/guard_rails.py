"""PURE. Guard-rails: is a checkpoint worse than the base model in some area, by more than the config allows?

Each area gets two one-sided tests on the mean paired difference d to the base model, with the allowed loss ε: d < ε
(pass) and d > ε (fail). With neither the area is undecided: too few items, or d too near to ε. Holm's method holds both
families over the areas, so that a wrong pass anywhere, and a wrong fail anywhere, has 5 % each.

Sources: the difference's standard error is the linearized one of a ratio of cluster totals (Cochran, Sampling
Techniques, 3rd ed., §9A.1), with t on clusters − 1; with one item a cluster it is the paired t-test. Holm,
Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.special  # not scipy.stats, which takes a second to import

from analysis.stats.bootstrap import Array, Design
from analysis.stats.rare_disagreement import cluster_parts, few_disagree, rare_error
from trainables.diagnostics.generalization import paired_rise

Outcome = Literal["pass", "fail", "undecided"]

ALPHA = 0.05


@dataclass(frozen=True)
class GuardRail:
    """One checkpoint's result in one area, in the unit of the metric that decides."""

    outcome: Outcome
    allowed: float  # how much worse than the base model it may be
    delta: float  # its mean minus the base model's; above 0 it is worse
    lower: float | None  # one-sided 95 % limit of this area's delta; None with fewer than two clusters
    upper: float | None
    p_pass: float  # Holm-adjusted p of the hypothesis that it is worse by `allowed` or more
    p_fail: float  # Holm-adjusted p of the hypothesis that it is worse by `allowed` or less


def guard_rails(
    design: Design, differences: Array, allowed: Mapping[str, float], shares: bool = False
) -> dict[str, GuardRail]:
    """Tests one checkpoint in every area that has a guard-rail.

    Args:
        design: The items' areas and clusters.
        differences: (items,), the checkpoint's loss minus the base model's; above 0 it is worse.
        allowed: How much worse it may be, by area; areas that aren't in it have no guard-rail.
        shares: Whether they are differences of shares, which may be 0 on nearly all items; see `rare_disagreement`.
    """
    areas = [area for area in design.areas if area in allowed]
    tests = [_test(design, differences, area, allowed[area], shares) for area in areas]
    passes = holm([test[3] for test in tests])
    fails = holm([test[4] for test in tests])
    return {
        area: GuardRail(_outcome(p_pass, p_fail), allowed[area], *test[:3], p_pass, p_fail)
        for area, test, p_pass, p_fail in zip(areas, tests, passes, fails, strict=True)
    }


def overall(rails: Mapping[str, GuardRail]) -> Outcome | None:
    """`fail` if any area fails, else `undecided` if any is, else `pass`; None without guard-rails."""
    worst: tuple[Outcome, ...] = ("fail", "undecided", "pass")
    outcomes = {rail.outcome for rail in rails.values()}
    return next((outcome for outcome in worst if outcome in outcomes), None)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the given order: the k-th smallest of m times m − k + 1, at most 1, never falling."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _test(
    design: Design, differences: Array, area: str, allowed: float, shares: bool
) -> tuple[float, float | None, float | None, float, float]:
    members = design.area_of == design.areas.index(area)
    values = differences[members].tolist()
    rise = paired_rise(values, [0.0] * len(values), [str(cluster) for cluster in design.cluster_of[members]])
    if rise is None:
        return float(np.mean(values)), None, None, 1.0, 1.0
    delta, error = rise.value, rise.error
    if shares:
        alone = replace(design, weights=np.eye(len(design.areas))[design.areas.index(area)])
        parts, sizes = cluster_parts(alone, differences)
        own = sizes > 0
        error = rare_error(parts[own], sizes[own]) if few_disagree(parts) else error
    reach = error * float(scipy.special.stdtrit(rise.df, 1 - ALPHA))
    if error == 0:  # all clusters agree exactly: nothing is left to chance
        return delta, delta, delta, float(delta >= allowed), float(delta <= allowed)
    score = (delta - allowed) / error
    below, above = (float(scipy.special.stdtr(rise.df, x)) for x in (score, -score))
    return delta, delta - reach, delta + reach, below, above


def _outcome(p_pass: float, p_fail: float) -> Outcome:
    return "pass" if p_pass <= ALPHA else "fail" if p_fail <= ALPHA else "undecided"
