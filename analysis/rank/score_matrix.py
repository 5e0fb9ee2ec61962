"""Held-out items by checkpoint, for all candidates that can be ranked, and each candidate's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.output.leaderboard import CheckpointName, Figures
from analysis.rank.candidates import Candidate, Scores, area_summary, as_interval, finite
from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array

TRIMMED_SHARE = 0.1  # ours: the tenth of an area's items at each end that a trimmed mean leaves out


@dataclass(frozen=True)
class ScoreMatrix:
    """Losses of all candidates on all items; a checkpoint is a column."""

    candidates: tuple[Candidate, ...]  # the checkpoints, sorted by trial and step
    keys: tuple[tuple[str, str], ...]  # (items,) area and id of each item
    nll: Array  # (items, checkpoints), nats a token
    base_nll: Array  # (items,) of the base model; NaN where it was not scored
    tokens: Array  # (items,) response tokens
    draws: bootstrap.Bootstrap  # the resamples, shared by all comparisons
    resampled: Array  # (resamples, checkpoints) objectives

    @property
    def design(self) -> bootstrap.Design:
        """The items' areas and clusters."""
        return self.draws.design

    @property
    def gains(self) -> Array:
        """(items, checkpoints), the base model's NLL minus the checkpoint's."""
        return self.base_nll[:, None] - self.nll

    def objectives(self) -> Array:
        """(checkpoints,), nats a token."""
        return bootstrap.objective(self.design, self.nll)

    def pair(self, column: int) -> CheckpointName:
        """A checkpoint as the leaderboard names it."""
        return {"trial_id": self.candidates[column].trial_id, "step": self.candidates[column].step}


def make_score_matrix(candidates: Sequence[Candidate], base: Scores, weights: Mapping[str, float]) -> ScoreMatrix:
    """Lays out the candidates' items.

    Args:
        candidates: At least one, all without a defect (so that they were scored on the same items).
        base: The base model's items; empty where it has none.
        weights: Of the areas.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.trial_id, candidate.step))
    keys = sorted(ordered[0].scores)
    items = [ordered[0].scores[key] for key in keys]
    design = bootstrap.make_design([area for area, _ in keys], [item.group for item in items], weights)
    nll = np.array([[candidate.scores[key].nll for candidate in ordered] for key in keys])
    draws = bootstrap.Bootstrap(design)
    return ScoreMatrix(
        candidates=tuple(ordered),
        keys=tuple(keys),
        nll=nll,
        base_nll=np.array([base[key].nll for key in keys]) if base else np.full(len(keys), np.nan),
        tokens=np.array([item.tokens for item in items], dtype=float),
        draws=draws,
        resampled=draws.objective(nll),
    )


def checkpoint_figures(matrix: ScoreMatrix, winner: int, baseline: Figures) -> list[Figures]:
    """Figures of each checkpoint against the base model and against the winner's checkpoint.

    Args:
        matrix: All candidates.
        winner: Column of the winner's checkpoint.
        baseline: The base model's `objective` and `areas`.

    Returns:
        For each column `objective`; `gain` over the base model (above 0 is better); `behind` the winner's checkpoint
        (below 0 only for a checkpoint of a setting that did not win); `token_weighted`, `trimmed`, `exact_match`,
        `token_f1` (means over areas by weight; None where not measured); `areas`. Intervals cover items, not seeds.
    """
    totals, resampled = matrix.objectives(), matrix.resampled
    behind = bootstrap.percentile_interval(resampled - resampled[:, [winner]])
    gains = bootstrap.percentile_interval(matrix.draws.objective(matrix.base_nll[:, None]) - resampled)
    weighted, trimmed = token_weighted(matrix), trimmed_mean(matrix)
    areas = _area_figures(matrix, baseline)
    base = baseline["objective"]
    return [
        {
            "objective": float(totals[k]),
            "gain": None if base is None else base - float(totals[k]),
            "gain_interval": as_interval(gains[:, k]),
            "behind": float(totals[k] - totals[winner]),
            "behind_interval": as_interval(behind[:, k]),
            "token_weighted": float(weighted[k]),
            "trimmed": float(trimmed[k]),
            "exact_match": _over_areas(matrix.design, areas[k], "exact_match"),
            "token_f1": _over_areas(matrix.design, areas[k], "token_f1"),
            "areas": areas[k],
        }
        for k in range(len(matrix.candidates))
    ]


def token_weighted(matrix: ScoreMatrix) -> Array:
    """(checkpoints,): the objective with each token of an area weighted equally, instead of each item."""
    design, weight = matrix.design, matrix.tokens[:, None]
    means = []
    for index in range(len(design.areas)):
        members = design.area_of == index
        means.append((matrix.nll * weight)[members].sum(axis=0) / matrix.tokens[members].sum())
    return design.weights @ np.stack(means)


def trimmed_mean(matrix: ScoreMatrix) -> Array:
    """(checkpoints,): the objective without the lowest and highest tenth of each area's items."""
    design = matrix.design
    means = []
    for index in range(len(design.areas)):
        ordered = np.sort(matrix.nll[design.area_of == index], axis=0)
        cut = int(TRIMMED_SHARE * len(ordered))
        means.append(ordered[cut : len(ordered) - cut].mean(axis=0))
    return design.weights @ np.stack(means)


def _area_figures(matrix: ScoreMatrix, baseline: Figures) -> list[dict[str, Figures]]:
    figures: list[dict[str, Figures]] = [{} for _ in matrix.candidates]
    for index, area in enumerate(matrix.design.areas):
        intervals = bootstrap.percentile_interval(matrix.draws.area_mean(index, -matrix.gains))
        base_mean = finite(baseline["areas"][area].get("nll"))
        for k, candidate in enumerate(matrix.candidates):
            summary = area_summary(candidate.scores, area, candidate.summaries.get(area, {}))
            delta = None if base_mean is None else summary["nll"] - base_mean
            figures[k][area] = {**summary, "delta": delta, "delta_interval": as_interval(intervals[:, k])}
    return figures


def _over_areas(design: bootstrap.Design, areas: dict[str, Figures], name: str) -> float | None:
    scores = [areas[area][name] for area in design.areas]
    # A mean over some of the areas would compare settings on different weights.
    return None if None in scores else float(design.weights @ np.array(scores))
