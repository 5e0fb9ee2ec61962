"""Rules on the held-out scores of one trial, read at its end: worse while training improves, and forgetting.

Checkpoints are compared item by item, and items that share a context count as one: the standard error is that of the
clusters' sums (Liang and Zeger 1986), as in the leaderboard's bootstrap, which resamples the same clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.diagnostics.finding import Evidence, Finding, Settings, lower_lr_advice
from trainables.diagnostics.running_stats import Difference

ALPHA = 0.01  # One-sided, shared out among the comparisons that a rule makes (Bonferroni)

# The items' mean losses by area, in one and the same order for all checkpoints.
Items = Mapping[str, Sequence[float]]

TrainingFall = Callable[[int, int], Difference | None]


@dataclass(frozen=True)
class HeldoutPoint:
    """A checkpoint's held-out scores.

    Attributes:
        step: Optimizer steps done.
        items: Each area's items' mean losses, in nats a token.
    """

    step: int
    items: Items


def heldout_findings(
    points: Sequence[HeldoutPoint],
    base: Items | None,
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    settings: Settings,
    training_fall: TrainingFall,
) -> list[Finding]:
    """What the held-out scores of a trial show.

    Args:
        points: Its checkpoints, by step.
        base: The base model's losses on the same items; None where they are not at hand.
        groups: Each item's cluster, by area and in the items' order.
        weights: Weight of each area that selects; other areas take no part in the objective.
        settings: The trial's.
        training_fall: How much the training loss fell between two steps (`CurveMonitor.training_fall`).
    """
    found: list[Finding] = []
    if len(points) > 1 and (finding := worse_held_out(points, groups, weights, settings, training_fall)):
        found.append(finding)
    if points and base is not None:
        found += forgotten_areas(points[-1], base, groups, settings)
    return found


def worse_held_out(
    points: Sequence[HeldoutPoint],
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    settings: Settings,
    training_fall: TrainingFall,
) -> Finding | None:
    """The objective of the last checkpoint is worse than an earlier one's while the training loss fell (warning).

    Each sample is trained on once, so its running loss is itself unseen: training improves and held-out worsens when
    the held-out areas are unlike the training set. Both changes must be certain (one-sided 1 % over all comparisons).

    Args:
        points: Checkpoints so far, in order.
        groups: By area, each item's cluster.
        weights: Of the areas.
        settings: The trial's diagnostics.
        training_fall: How much the training loss fell between two steps.
    """
    last = points[-1]
    level = ALPHA / (len(points) - 1)
    worst: Finding | None = None
    for point in points[:-1]:
        rise = objective_rise(last.items, point.items, groups, weights)
        fall = training_fall(point.step, last.step)
        # Written so that a NaN, of a loss that is not finite, is certain of nothing.
        if fall is None or not (rise.above_zero_p < level and fall.above_zero_p < ALPHA):
            continue
        if worst is not None and rise.value <= float(worst["evidence"]["heldout_rise_nats"]):
            continue
        evidence: Evidence = {
            "heldout_rise_nats": rise.value,
            "p": rise.above_zero_p,
            "training_fall_nats": fall.value,
            "training_p": fall.above_zero_p,
            "from_step": point.step,
            "to_step": last.step,
        }
        half = settings.schedule.peak_lr / 2.0
        advice = (
            f"the checkpoint of step {point.step} is the better one; try space.peak_lr {half:.1e} (half of this "
            "trial's), or add training samples that are like the held-out areas"
        )
        worst = Finding(rule="heldout_worse", severity="warning", step=last.step, evidence=evidence, advice=advice)
    return worst


def forgotten_areas(
    point: HeldoutPoint, base: Items, groups: Mapping[str, Sequence[str]], settings: Settings
) -> list[Finding]:
    """Areas on which a checkpoint is certainly worse than the base model (one-sided 1 % over all areas; warning).

    Args:
        point: The checkpoint.
        base: The base model's losses by area, item by item, nats a token.
        groups: By area, each item's cluster.
        settings: The trial's diagnostics.
    """
    found = []
    level = ALPHA / len(point.items)
    for area, items in point.items.items():
        rise = paired_rise(items, base[area], groups[area])
        if rise is None or not rise.above_zero_p < level:
            continue
        evidence: Evidence = {
            "area": area,
            "rise_over_base_nats": rise.value,
            "p": rise.above_zero_p,
            "items": len(items),
            "from_step": point.step,
            "to_step": point.step,
        }
        advice = f"add training samples that are like {area}, or {lower_lr_advice(settings)}"
        found.append(Finding(rule="forgetting", severity="warning", step=point.step, evidence=evidence, advice=advice))
    return found


def paired_rise(after: Sequence[float], before: Sequence[float], groups: Sequence[str]) -> Difference | None:
    """Mean rise of the items' losses, with the standard error that clusters allow; None below two clusters.

    Items whose loss is not finite on either side make the rise NaN, and nothing is certain of it.
    """
    rises = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    mean = float(rises.mean())
    _, cluster = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.bincount(cluster, weights=rises - mean)
    clusters = len(sums)
    if clusters < 2:
        return None
    error = math.sqrt(clusters / (clusters - 1) * float((sums**2).sum())) / len(rises)
    return Difference(mean, error, clusters - 1.0)


def objective_rise(
    after: Items, before: Items, groups: Mapping[str, Sequence[str]], weights: Mapping[str, float]
) -> Difference:
    """Rise of the weighted mean over areas; degrees of freedom by Welch and Satterthwaite, as for a sum of means.

    Args:
        after: Losses by area, item by item, nats a token.
        before: Of the same items.
        groups: By area, each item's cluster.
        weights: Of the areas.
    """
    total = sum(weights.values())
    value, variance, spread = 0.0, 0.0, 0.0
    for area, weight in weights.items():
        rise = paired_rise(after[area], before[area], groups[area])
        if rise is None:
            return Difference(0.0, 1.0, 1.0)
        share = weight / total
        part = (share * rise.error) ** 2
        value, variance, spread = value + share * rise.value, variance + part, spread + part * part / rise.df
    return Difference(value, math.sqrt(variance), variance * variance / spread if spread else 1.0)
