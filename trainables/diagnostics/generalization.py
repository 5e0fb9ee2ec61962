"""Rules on the held-out scores of one trial, read at its end: worse while training improves, and forgetting.

Checkpoints are compared item by item. Items that share a context form one cluster, and standard errors are those of
cluster sums (Liang and Zeger 1986), matching the leaderboard's cluster bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainables.diagnostics.finding import Evidence, Finding, Settings, lower_lr_advice
from trainables.diagnostics.running_stats import Difference

ALPHA = 0.01  # one-sided, divided among a rule's comparisons (Bonferroni)
Items = Mapping[str, Sequence[float]]  # the items' mean losses by area, in the same order for all checkpoints
TrainingFall = Callable[[int, int], Difference | None]


@dataclass(frozen=True)
class HeldoutPoint:
    """A checkpoint's held-out scores."""

    step: int  # optimizer steps done
    items: Items  # each area's items' mean losses, in nats a token


def heldout_findings(
    points: Sequence[HeldoutPoint],
    base: Items | None,
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    settings: Settings,
    training_fall: TrainingFall,
) -> list[Finding]:
    """Findings from the held-out scores of a trial.

    Args:
        points: Its checkpoints, by step.
        base: The base model's losses on the same items; None if unknown.
        groups: Each item's cluster, by area and in the items' order.
        weights: Weight of each area that selects; other areas take no part in the objective.
        settings: The trial's.
        training_fall: Fall of the training loss between two steps (`CurveMonitor.training_fall`).
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

    Args:
        points: Checkpoints so far, in order.
        groups: By area, each item's cluster.
        weights: Of the areas.
        settings: The trial's diagnostics.
        training_fall: Fall of the training loss between two steps.
    """
    # Each sample is trained on once, so the running loss is itself held out. It can only part from the held-out areas
    # where these differ from the training set. Both changes must be certain.
    last = points[-1]
    level = ALPHA / (len(points) - 1)
    worst: Finding | None = None
    for point in points[:-1]:
        rise = objective_rise(last.items, point.items, groups, weights)
        fall = training_fall(point.step, last.step)
        # `not (a < b)` instead of `a >= b`: a NaN, from a loss that is not finite, must not count as certain.
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
    """Mean rise of the items' losses with its cluster-robust standard error; None below two clusters."""
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
            return Difference(0.0, 1.0, 1.0)  # no error can be estimated: never certain
        share = weight / total
        part = (share * rise.error) ** 2
        value, variance, spread = value + share * rise.value, variance + part, spread + part * part / rise.df
    return Difference(value, math.sqrt(variance), variance * variance / spread if spread else 1.0)
