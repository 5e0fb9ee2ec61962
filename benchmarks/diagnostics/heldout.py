"""Held-out scores with a known truth, for precision and recall of the rules that read them.

Three areas have 60 items each, in clusters of two. An item's change of loss is the truth plus noise, part of which its
cluster shares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.stats.one_area_winner import one_area_winner
from benchmarks.diagnostics.rule_counts import RuleCounts
from trainables.diagnostics import HeldoutPoint, heldout_findings
from trainables.diagnostics.finding import Settings
from trainables.diagnostics.generalization import Items
from trainables.diagnostics.running_stats import Difference
from trainables.optim.lr_schedule import LRSchedule

AREAS = ("contracts", "invoices", "tables")
ITEMS, POINTS, OTHERS = 60, 4, 4
# Of the change of an item's loss between two checkpoints, its own and its cluster's part, in nats. Ours.
NOISE_SD, CLUSTER_SD = 0.25, 0.15

RULES = ("heldout_worse", "forgetting", "one_area_winner")
GROUPS = {area: [f"{area}-{item // 2}" for item in range(ITEMS)] for area in AREAS}
WEIGHTS = dict.fromkeys(AREAS, 1.0)


@dataclass(frozen=True)
class Class:
    """A kind of trial, by the ranges from which its true differences are drawn, in nats a token."""

    # how much the last checkpoint is worse than the one before, in all areas
    late_rise: tuple[float, float] = (-0.1, -0.02)
    # how much the last checkpoint is worse than the base model in one area; elsewhere it gains 0.5
    over_base: tuple[float, float] = (-0.5, -0.5)
    # how much better than other trials in one area; elsewhere it is worse by `lost`
    won: tuple[float, float] = (0.0, 0.0)
    lost: tuple[float, float] = (0.0, 0.0)  # see there
    must: tuple[str, ...] = ()  # rules that must speak


CLASSES = {
    "healthy": Class(),
    "no change at the end": Class(late_rise=(0.0, 0.0)),
    "worse at the end": Class(late_rise=(0.08, 0.25), must=("heldout_worse",)),
    "an area as the base model": Class(over_base=(0.0, 0.0)),
    "an area forgotten": Class(over_base=(0.12, 0.4), must=("forgetting",)),
    "best everywhere": Class(won=(0.1, 0.3), lost=(-0.3, -0.1)),
    "as all others": Class(),
    "best on one area, worse on the rest": Class(won=(0.15, 0.4), lost=(0.12, 0.3), must=("one_area_winner",)),
}


def findings(kind: Class, seed: int) -> set[str]:
    """Rules that speak on one trial of a class."""
    draw = np.random.default_rng([37, seed])
    base = _items(draw, {area: draw.gamma(4.0, 0.5, ITEMS) for area in AREAS}, dict.fromkeys(AREAS, 0.0), noise=0.0)
    rise, over, won, lost = (draw.uniform(*ends) for ends in (kind.late_rise, kind.over_base, kind.won, kind.lost))
    end = {area: over if area == AREAS[0] else -0.5 for area in AREAS}
    shares = (0.4, 0.8, None, 1.0)  # of the way to the end; the point before the last lies below it by the rise
    points = []
    for place, share in enumerate(shares, start=1):
        change = {area: end[area] - rise if share is None else share * end[area] for area in AREAS}
        points.append(HeldoutPoint(place * 25, _items(draw, base, change)))
    settings = Settings(LRSchedule(2e-4, 4e-5, 100, 5), 1.0)
    found = heldout_findings(points, base, GROUPS, WEIGHTS, settings, lambda _from, _to: Difference(0.3, 0.05, 200.0))
    level = {area: -won if area == AREAS[0] else lost for area in AREAS}
    others = {str(other): _items(draw, base, dict.fromkeys(AREAS, 0.0)) for other in range(OTHERS)}
    of_sweep = one_area_winner(100, _items(draw, base, level), others, GROUPS, WEIGHTS)
    return {finding["rule"] for finding in found} | ({of_sweep["rule"]} if of_sweep else set())


def heldout_counts(trials: int) -> dict[str, RuleCounts]:
    counts = {rule: RuleCounts() for rule in RULES}
    for kind in CLASSES.values():
        for seed in range(trials):
            spoken = findings(kind, seed)
            for rule, count in counts.items():
                count.add(rule in spoken, rule in kind.must)
    return counts


def _items(
    draw: np.random.Generator, base: Items, change: dict[str, float], noise: float = 1.0
) -> dict[str, list[float]]:
    """Item losses by area: the base model's plus the change plus noise."""
    own = {area: draw.normal(0.0, NOISE_SD, ITEMS) for area in AREAS}
    shared = {area: np.repeat(draw.normal(0.0, CLUSTER_SD, ITEMS // 2), 2) for area in AREAS}
    return {
        area: (np.asarray(base[area]) + change[area] + noise * (own[area] + shared[area])).tolist() for area in AREAS
    }
