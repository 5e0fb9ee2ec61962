"""Candidates: the checkpoints that compete, their scores, and why others can't be ranked."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.output.leaderboard import UNANSWERED, Figures, Interval
from analysis.records.sweep import BASELINE, HeldoutScore, Sweep
from trainables.evaluation.objective import Measure

Scores = dict[tuple[str, str], HeldoutScore]


@dataclass(frozen=True)
class Candidate:
    """A checkpoint of a complete trial."""

    trial_id: str  # its trial
    step: int  # optimizer steps done when it was written
    path: str | None  # its path as the sweep wrote it; None if unknown
    scores: Scores  # its held-out items by (area, id), of the areas in the objective
    summaries: dict[str, Any]  # its areas as the sweep summarized them, for the user's own scorers
    defect: str | None = None  # why it can't be ranked; None if it can
    sealed: Scores = field(default_factory=dict)  # its items of sealed areas, which never count in the ranking


@dataclass(frozen=True)
class Base:
    """The base model."""

    scores: Scores  # its items by (area, id), of the areas in the objective; empty if one area lacks them
    sealed: Scores  # its items of sealed areas
    summary: Figures = field(default_factory=dict)  # its `objective` and `areas`, each None where unknown


def read_candidates(sweep: Sweep, notes: list[str]) -> tuple[list[Candidate], Base]:
    """Reads every checkpoint of every complete trial, and the base model's items.

    Args:
        sweep: The sweep.
        notes: Faults of the files are added here.

    Returns:
        The candidates, sorted by trial and step, and the base model.
    """
    heldout = sweep.heldout(BASELINE)
    notes += heldout.notes
    base = _of_areas(heldout.by_step.get(0, {}), sweep.weights)
    sealed = _of_areas(heldout.by_step.get(0, {}), sweep.sealed)
    if {area for area, _ in base} != set(sweep.weights):
        notes.append("the base model's items are not there for every area: gains have no interval")
        base = {}
    found: list[Candidate] = []
    for trial in sweep.trials:
        if trial.state != "complete":
            continue
        heldout = sweep.heldout(trial.trial_id)
        notes += heldout.notes
        steps = {int(c["step"]): c for c in trial.checkpoints}
        if unlisted := sorted(set(heldout.by_step) - set(steps)):
            notes.append(f"{trial.trial_id}: scores at steps {unlisted} belong to no checkpoint and are left out")
        for step, checkpoint in sorted(steps.items()):
            scored = heldout.by_step.get(step, {})
            candidate = Candidate(
                trial_id=trial.trial_id,
                step=step,
                path=checkpoint.get("path"),
                scores=_of_areas(scored, sweep.weights),
                summaries=checkpoint.get("areas") or {},
                sealed=_of_areas(scored, sweep.sealed),
            )
            found.append(candidate)
    # All are compared on the same items: the base model's, or, without these, all that any checkpoint was scored on.
    wanted = set(base) or {key for candidate in found for key in candidate.scores}
    ranked = [replace(candidate, defect=_defect(candidate, wanted, sweep)) for candidate in found]
    return ranked, Base(base, sealed, _base_summary(sweep, base))


def _base_summary(sweep: Sweep, base: Scores) -> Figures:
    areas = {}
    for area in sweep.weights:
        written = (sweep.baseline or {}).get(area, {})
        areas[area] = area_summary(base, area, written) if base else dict(written)
    return {"objective": finite(sweep.measure.objective(areas, sweep.weights)), "areas": areas}


def as_interval(bounds: np.ndarray) -> Interval | None:
    """(2,) low and high as a list; None where they are unknown (NaN)."""
    return [float(bounds[0]), float(bounds[1])] if np.all(np.isfinite(bounds)) else None


def finite(value: object) -> float | None:
    """The value as a float; None unless it is a finite number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def area_summary(scores: Scores, area: str, written: dict[str, Any]) -> Figures:
    """An area's means from its items, plus what only the sweep's summary has."""
    items = [score for (name, _), score in sorted(scores.items()) if name == area]
    scorers = items[0].scores if items else ()
    own = {
        **{name: _mean([item.scores[name] for item in items if name in item.scores]) for name in scorers},
        "nll": _mean([item.nll for item in items]),
        "exact_match": _mean([item.exact_match for item in items if item.exact_match is not None]),
        "token_f1": _mean([item.token_f1 for item in items if item.token_f1 is not None]),
        "cut_answers": sum(cut) if (cut := [item.cut for item in items if item.cut is not None]) else None,
        "items": len(items),
    }
    return {**own, **{name: value for name, value in written.items() if name not in own}}


def _mean(values: list[float]) -> float | None:
    # math.fsum is exact, so that the order of the items can't change a mean.
    return math.fsum(values) / len(values) if values else None


def _of_areas(scores: Scores, areas: Container[str]) -> Scores:
    return {key: score for key, score in scores.items() if key[0] in areas}


def _defect(candidate: Candidate, wanted: set[tuple[str, str]], sweep: Sweep) -> str | None:
    if not candidate.scores:
        return "no held-out scores"
    if missing := sorted(set(sweep.weights) - {area for area, _ in candidate.scores}):
        return f"no held-out scores in {', '.join(missing)}"
    have = set(candidate.scores)
    if have != wanted:
        return f"scored on other items: {len(wanted - have)} missing, {len(have - wanted)} unknown"
    if broken := sum(not math.isfinite(score.nll) for score in candidate.scores.values()):
        return f"the loss is not finite on {broken} items"
    metric = sweep.measure.metric
    without = sum(score.value(metric) is None for score in candidate.scores.values())
    if without == len(candidate.scores):
        return UNANSWERED
    return f"{metric} is missing on {without} items" if without else None


def decision_values(scores: Scores, keys: Sequence[tuple[str, str]], measure: Measure) -> list[float]:
    """The items' values that ranking goes by, lower is better; NaN where an item has none."""
    found = [scores[key].value(measure.metric) if key in scores else None for key in keys]
    return [math.nan if value is None else measure.turned(value) for value in found]
