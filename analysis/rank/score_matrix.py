"""Held-out items by checkpoint, for all candidates that can be ranked, and each candidate's figures.

The objective is that of the metric that decides, lower is better; see `trainables.evaluation.objective.Measure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.output.leaderboard import CheckpointName, Figures, Interval
from analysis.rank.candidates import Candidate, Scores, area_summary, as_interval, decision_values, finite
from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array
from analysis.stats.rare_disagreement import rare_mean_error
from analysis.stats.seed_variance import critical_value
from trainables.evaluation.objective import Measure

TRIMMED_SHARE = 0.1  # ours: the tenth of an area's items at each end that a trimmed mean leaves out


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of all candidates on all items; a checkpoint is a column."""

    candidates: tuple[Candidate, ...]  # the checkpoints, sorted by trial and step
    keys: tuple[tuple[str, str], ...]  # (items,) area and id of each item
    nll: Array  # (items, checkpoints), nats a token
    base_nll: Array  # (items,) of the base model; NaN where it was not scored
    tokens: Array  # (items,) response tokens
    draws: bootstrap.Bootstrap  # the resamples, shared by all comparisons
    values: Array  # (items, checkpoints) that decide, lower is better
    base_values: Array  # (items,) the base model's; NaN where unknown
    resampled: Array  # (resamples, checkpoints) objectives
    measure: Measure  # what `values` are

    @property
    def design(self) -> bootstrap.Design:
        """The items' areas and clusters."""
        return self.draws.design

    @property
    def gains(self) -> Array:
        """(items, checkpoints), by how much the checkpoint is better than the base model."""
        return self.base_values[:, None] - self.values

    def objectives(self) -> Array:
        """(checkpoints,), lower is better."""
        return bootstrap.objective(self.design, self.values)

    def rare_error(self, differences: Array) -> float | None:
        """Standard error over items of the mean of (items,) differences, where resamples say too little of it.

        None where they say enough: of the NLL, and of shares on which `FEW` clusters or more disagree.
        """
        if not self.measure.higher_is_better or not np.all(np.isfinite(differences)):
            return None
        return rare_mean_error(self.design, differences)

    def interval(self, differences: Array, resampled: Array) -> Interval | None:
        """The 95 % interval over items of the mean of (items,) differences, given its (resamples,)."""
        error = self.rare_error(differences)
        if error is None:
            return as_interval(bootstrap.percentile_interval(resampled))
        value = float(bootstrap.objective(self.design, differences[:, None])[0])
        reach = critical_value((1 - bootstrap.LEVEL) / 2, np.inf) * error
        return [value - reach, value + reach]

    def pair(self, column: int) -> CheckpointName:
        """A checkpoint as the leaderboard names it."""
        return {"trial_id": self.candidates[column].trial_id, "step": self.candidates[column].step}


def make_score_matrix(
    candidates: Sequence[Candidate], base: Scores, weights: Mapping[str, float], measure: Measure
) -> ScoreMatrix:
    """Lays out the candidates' items.

    Args:
        candidates: At least one, all without a defect (so that they were scored on the same items).
        base: The base model's items; empty where it has none.
        weights: Of the areas.
        measure: What decides.
    """
    ordered = sorted(candidates, key=lambda candidate: (candidate.trial_id, candidate.step))
    keys = sorted(ordered[0].scores)
    items = [ordered[0].scores[key] for key in keys]
    design = bootstrap.make_design([area for area, _ in keys], [item.group for item in items], weights)
    nll = np.array([[candidate.scores[key].nll for candidate in ordered] for key in keys])
    values = np.array([decision_values(candidate.scores, keys, measure) for candidate in ordered]).T
    draws = bootstrap.Bootstrap(design)
    return ScoreMatrix(
        candidates=tuple(ordered),
        keys=tuple(keys),
        nll=nll,
        base_nll=np.array([base[key].nll for key in keys]) if base else np.full(len(keys), np.nan),
        tokens=np.array([item.tokens for item in items], dtype=float),
        draws=draws,
        values=values,
        base_values=np.array(decision_values(base, keys, measure)),
        resampled=draws.objective(values),
        measure=measure,
    )


def checkpoint_figures(matrix: ScoreMatrix, winner: int, baseline: Figures) -> list[Figures]:
    """Figures of each checkpoint against the base model and against the winner's checkpoint.

    Args:
        matrix: All candidates.
        winner: Column of the winner's checkpoint.
        baseline: The base model's `objective` and `areas`.

    Returns:
        For each column `objective`; `gain` over the base model (above 0 is better); `behind` the winner's checkpoint
        (below 0 only for a checkpoint of a setting that did not win); `nll`, `token_weighted`, `trimmed`,
        `exact_match`, `token_f1` (means over areas by weight; None where not measured); `areas`. Intervals cover items,
        not seeds.
    """
    totals, resampled = matrix.objectives(), matrix.resampled
    ahead, values = resampled - resampled[:, [winner]], matrix.values - matrix.values[:, [winner]]
    gained = matrix.draws.objective(matrix.base_values[:, None]) - resampled
    nll = bootstrap.objective(matrix.design, matrix.nll)
    weighted, trimmed = token_weighted(matrix), trimmed_mean(matrix)
    areas = _area_figures(matrix, baseline)
    base = baseline["objective"]
    return [
        {
            "objective": float(totals[k]),
            "gain": None if base is None else base - float(totals[k]),
            "gain_interval": matrix.interval(matrix.gains[:, k], gained[:, k]),
            "behind": float(totals[k] - totals[winner]),
            "behind_interval": matrix.interval(values[:, k], ahead[:, k]),
            "nll": float(nll[k]),
            "token_weighted": float(weighted[k]),
            "trimmed": float(trimmed[k]),
            "exact_match": _over_areas(matrix.design, areas[k], "exact_match"),
            "token_f1": _over_areas(matrix.design, areas[k], "token_f1"),
            "areas": areas[k],
        }
        for k in range(len(matrix.candidates))
    ]


def token_weighted(matrix: ScoreMatrix) -> Array:
    """(checkpoints,): the NLL with each token of an area weighted equally, instead of each item."""
    design, weight = matrix.design, matrix.tokens[:, None]
    means = []
    for index in range(len(design.areas)):
        members = design.area_of == index
        means.append((matrix.nll * weight)[members].sum(axis=0) / matrix.tokens[members].sum())
    return design.weights @ np.stack(means)


def trimmed_mean(matrix: ScoreMatrix) -> Array:
    """(checkpoints,): the NLL without the lowest and highest tenth of each area's items."""
    design = matrix.design
    means = []
    for index in range(len(design.areas)):
        ordered = np.sort(matrix.nll[design.area_of == index], axis=0)
        cut = int(TRIMMED_SHARE * len(ordered))
        means.append(ordered[cut : len(ordered) - cut].mean(axis=0))
    return design.weights @ np.stack(means)


def _area_figures(matrix: ScoreMatrix, baseline: Figures) -> list[dict[str, Figures]]:
    figures: list[dict[str, Figures]] = [{} for _ in matrix.candidates]
    means = bootstrap.area_means(matrix.design, matrix.values)
    for index, area in enumerate(matrix.design.areas):
        intervals = bootstrap.percentile_interval(matrix.draws.area_mean(index, -matrix.gains))
        base_mean = finite(baseline["areas"][area].get(matrix.measure.metric))
        base_mean = None if base_mean is None else matrix.measure.turned(base_mean)
        for k, candidate in enumerate(matrix.candidates):
            summary = area_summary(candidate.scores, area, candidate.summaries.get(area, {}))
            own = float(means[index, k])
            delta = None if base_mean is None else own - base_mean
            figures[k][area] = {**summary, "delta": delta, "delta_interval": as_interval(intervals[:, k])}
    return figures


def _over_areas(design: bootstrap.Design, areas: dict[str, Figures], name: str) -> float | None:
    scores = [areas[area][name] for area in design.areas]
    # A mean over some of the areas would compare settings on different weights.
    return None if None in scores else float(design.weights @ np.array(scores))
