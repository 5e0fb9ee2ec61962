"""Which checkpoints compete, and the figures by which they are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis import stats
from analysis.records import BASELINE, ItemScore, Sweep

Scores = dict[tuple[str, str], ItemScore]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A checkpoint of a complete trial.

    Attributes:
        trial_id: Its trial.
        step: Optimiser steps done when it was written.
        path: Where it lies, as the sweep wrote it; None where that isn't known.
        scores: Its held-out items by (area, id), of the areas in the objective.
        summaries: Its areas as the sweep summarised them, for the scorers of the user's own.
        defect: Why it can't be ranked; None if it can.
    """

    trial_id: str
    step: int
    path: str | None
    scores: Scores
    summaries: dict[str, Any]
    defect: str | None = None


def read_contenders(sweep: Sweep, notes: list[str]) -> tuple[list[Contender], Scores]:
    """Reads every checkpoint of every complete trial, and the base model's items.

    A checkpoint competes only with a finite loss on exactly the items that the base model was scored on (where the
    base model lacks scores: on every item that any checkpoint was scored on), so that all are compared on the same.

    Args:
        sweep: The sweep.
        notes: What was found wrong in the files is added here.

    Returns:
        The contenders, sorted by trial and step, and the base model's items (empty where not scored on every area).
    """
    heldout = sweep.heldout(BASELINE)
    notes += heldout.notes
    base = _of_areas(heldout.by_step.get(0, {}), sweep)
    if {area for area, _ in base} != set(sweep.weights):
        notes.append("the base model's items are not there for every area: gains have no interval")
        base = {}
    found: list[Contender] = []
    for trial in sweep.trials:
        if trial.state != "complete":
            continue
        heldout = sweep.heldout(trial.trial_id)
        notes += heldout.notes
        steps = {int(c["step"]): c for c in trial.checkpoints}
        if unlisted := sorted(set(heldout.by_step) - set(steps)):
            notes.append(f"{trial.trial_id}: scores at steps {unlisted} belong to no checkpoint and are left out")
        for step, checkpoint in sorted(steps.items()):
            scores = _of_areas(heldout.by_step.get(step, {}), sweep)
            summaries = checkpoint.get("areas") or {}
            found.append(Contender(trial.trial_id, step, checkpoint.get("path"), scores, summaries))
    wanted = set(base) or {key for contender in found for key in contender.scores}
    return [replace(contender, defect=_defect(contender, wanted, sweep)) for contender in found], base


def compare(contenders: Sequence[Contender], base: Scores, sweep: Sweep) -> dict[tuple[str, int], Figures]:
    """Figures of each contender against the base model and against the lowest contender.

    Args:
        contenders: At least one, all without a defect.
        base: The base model's items; empty where it has none.
        sweep: For the weights, and the base model's summaries where items are missing.

    Returns:
        By (trial, step): `objective`, `gain` over the base model (above 0 is better), `behind` the lowest contender
        (0 and up), `areas`, each with an interval beside it where there is one.
    """
    keys = sorted(contenders[0].scores)
    groups = [contenders[0].scores[key].group for key in keys]
    design = stats.make_design([area for area, _ in keys], groups, sweep.weights)
    nll = np.array([[c.scores[key].nll for c in contenders] for key in keys])  # (items, contenders)
    totals = stats.objective(design, nll)
    lowest = min(range(len(contenders)), key=lambda k: (totals[k], contenders[k].step, contenders[k].trial_id))
    draws = stats.Bootstrap(design)
    resampled = draws.objective(nll)  # (resamples, contenders)
    behind = stats.percentile_interval(resampled - resampled[:, [lowest]])
    baseline = baseline_summary(sweep, base)
    base_total = baseline["objective"]
    base_nll = np.array([[base[key].nll] for key in keys]) if base else np.full((len(keys), 1), np.nan)
    gains = stats.percentile_interval(draws.objective(base_nll) - resampled)
    areas = _area_figures(contenders, draws, nll, base_nll, baseline)
    return {
        (c.trial_id, c.step): {
            "objective": float(totals[k]),
            "gain": None if base_total is None else base_total - float(totals[k]),
            "gain_interval": as_interval(gains[:, k]),
            "behind": float(totals[k] - totals[lowest]),
            "behind_interval": as_interval(behind[:, k]),
            "areas": areas[k],
        }
        for k, c in enumerate(contenders)
    }


def baseline_summary(sweep: Sweep, base: Scores) -> Figures:
    """The base model's `objective` and `areas`, from its items, else from `baseline.json`; None where unknown."""
    areas = {}
    for area in sweep.weights:
        written = (sweep.baseline or {}).get(area, {})
        areas[area] = _summary(base, area, written) if base else dict(written)
    losses = [finite(areas[area].get("nll")) for area in sweep.weights]
    known = [loss for loss in losses if loss is not None]
    weights = list(sweep.weights.values())
    complete = len(known) == len(weights)
    total = sum(w * loss for w, loss in zip(weights, known, strict=True)) / sum(weights) if complete else None
    return {"objective": total, "areas": areas}


def as_interval(bounds: np.ndarray) -> list[float] | None:
    """(2,) low and high as a list; None where they are not known (NaN)."""
    return [float(bounds[0]), float(bounds[1])] if np.all(np.isfinite(bounds)) else None


def finite(value: object) -> float | None:
    """The value as a float; None where it is no finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _area_figures(
    contenders: Sequence[Contender], draws: stats.Bootstrap, nll: stats.Array, base_nll: stats.Array, baseline: Figures
) -> list[dict[str, Figures]]:
    figures: list[dict[str, Figures]] = [{} for _ in contenders]
    for index, area in enumerate(draws.design.areas):
        intervals = stats.percentile_interval(draws.area_mean(index, nll) - draws.area_mean(index, base_nll))
        base_mean = finite(baseline["areas"][area].get("nll"))
        for k, contender in enumerate(contenders):
            summary = _summary(contender.scores, area, contender.summaries.get(area, {}))
            delta = None if base_mean is None else summary["nll"] - base_mean
            figures[k][area] = {**summary, "delta": delta, "delta_interval": as_interval(intervals[:, k])}
    return figures


def _summary(scores: Scores, area: str, written: dict[str, Any]) -> Figures:
    """An area's means; what the sweep summarised beyond them (the user's own scorers) is passed on."""
    items = [score for (name, _), score in sorted(scores.items()) if name == area]
    own = {
        "nll": _mean([item.nll for item in items]),
        "exact_match": _mean([item.exact_match for item in items if item.exact_match is not None]),
        "token_f1": _mean([item.token_f1 for item in items if item.token_f1 is not None]),
        "items": len(items),
    }
    return {**own, **{name: value for name, value in written.items() if name not in own}}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _of_areas(scores: Scores, sweep: Sweep) -> Scores:
    return {key: score for key, score in scores.items() if key[0] in sweep.weights}


def _defect(contender: Contender, wanted: set[tuple[str, str]], sweep: Sweep) -> str | None:
    if not contender.scores:
        return "no held-out scores"
    if missing := sorted(set(sweep.weights) - {area for area, _ in contender.scores}):
        return f"no held-out scores in {', '.join(missing)}"
    have = set(contender.scores)
    if have != wanted:
        return f"scored on other items: {len(wanted - have)} missing, {len(have - wanted)} unknown"
    if broken := sum(not math.isfinite(score.nll) for score in contender.scores.values()):
        return f"the loss is not finite on {broken} items"
    return None
