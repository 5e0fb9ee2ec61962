"""The held-out items of all checkpoints that can be ranked, side by side, and each checkpoint's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.rank.candidates import Candidate, Figures, Scores, area_summary, as_interval, finite
from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array

TRIMMED_SHARE = 0.1  # ours: the tenth of an area's items at each end that a trimmed mean leaves out


@dataclass(frozen=True)
class ScoreMatrix:
    """What a ranking is made from; a checkpoint is a column.

    Attributes:
        candidates: The checkpoints, sorted by trial and step.
        keys: (items,) area and id of each item.
        nll: (items, checkpoints), nats a token.
        base_nll: (items,) of the base model; NaN where it was not scored.
        tokens: (items,) response tokens.
        draws: The resamples, shared by everything that is compared.
        resampled: (resamples, checkpoints) objectives.
    """

    candidates: tuple[Candidate, ...]
    keys: tuple[tuple[str, str], ...]
    nll: Array
    base_nll: Array
    tokens: Array
    draws: bootstrap.Bootstrap
    resampled: Array

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

    def pair(self, column: int) -> dict[str, object]:
        """A checkpoint as the leaderboard names it."""
        return {"trial_id": self.candidates[column].trial_id, "step": self.candidates[column].step}


def gather(candidates: Sequence[Candidate], base: Scores, weights: Mapping[str, float]) -> ScoreMatrix:
    """Puts the candidates' items side by side.

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


def checkpoint_figures(score_matrix: ScoreMatrix, winner: int, baseline: Figures) -> list[Figures]:
    """Figures of each checkpoint against the base model and against the winner's checkpoint.

    Args:
        score_matrix: All checkpoints.
        winner: Column of the winner's checkpoint.
        baseline: The base model's `objective` and `areas`.

    Returns:
        For each column `objective`; `gain` over the base model (above 0 is better); `behind` the winner's checkpoint
        (below 0 only for a checkpoint of a setting that did not win); `token_weighted`, `trimmed`, `exact_match`,
        `token_f1` (means over areas by weight; None where not measured); `areas`. Intervals are over items alone.
    """
    totals, resampled = score_matrix.objectives(), score_matrix.resampled
    behind = bootstrap.percentile_interval(resampled - resampled[:, [winner]])
    gains = bootstrap.percentile_interval(score_matrix.draws.objective(score_matrix.base_nll[:, None]) - resampled)
    weighted, trimmed = token_weighted(score_matrix), trimmed_mean(score_matrix)
    areas = _area_figures(score_matrix, baseline)
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
            "exact_match": _over_areas(score_matrix.design, areas[k], "exact_match"),
            "token_f1": _over_areas(score_matrix.design, areas[k], "token_f1"),
            "areas": areas[k],
        }
        for k in range(len(score_matrix.candidates))
    ]


def token_weighted(score_matrix: ScoreMatrix) -> Array:
    """(checkpoints,): as the objective, but within an area each token counts alike instead of each item."""
    design, weight = score_matrix.design, score_matrix.tokens[:, None]
    means = []
    for index in range(len(design.areas)):
        members = design.area_of == index
        means.append((score_matrix.nll * weight)[members].sum(axis=0) / score_matrix.tokens[members].sum())
    return design.weights @ np.stack(means)


def trimmed_mean(score_matrix: ScoreMatrix) -> Array:
    """(checkpoints,): as the objective, but without the tenth of each area's items at either end."""
    design = score_matrix.design
    means = []
    for index in range(len(design.areas)):
        ordered = np.sort(score_matrix.nll[design.area_of == index], axis=0)
        cut = int(TRIMMED_SHARE * len(ordered))
        means.append(ordered[cut : len(ordered) - cut].mean(axis=0))
    return design.weights @ np.stack(means)


def _area_figures(score_matrix: ScoreMatrix, baseline: Figures) -> list[dict[str, Figures]]:
    draws = score_matrix.draws
    figures: list[dict[str, Figures]] = [{} for _ in score_matrix.candidates]
    for index, area in enumerate(draws.design.areas):
        differences = draws.area_mean(index, -score_matrix.gains)
        intervals = bootstrap.percentile_interval(differences)
        base_mean = finite(baseline["areas"][area].get("nll"))
        for k, candidate in enumerate(score_matrix.candidates):
            summary = area_summary(candidate.scores, area, candidate.summaries.get(area, {}))
            delta = None if base_mean is None else summary["nll"] - base_mean
            figures[k][area] = {**summary, "delta": delta, "delta_interval": as_interval(intervals[:, k])}
    return figures


def _over_areas(design: bootstrap.Design, areas: dict[str, Figures], name: str) -> float | None:
    scores = [areas[area][name] for area in design.areas]
    known = [score for score in scores if score is not None]
    return float(design.weights @ np.array(known)) if len(known) == len(scores) else None
