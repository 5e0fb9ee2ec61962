"""Findings that take all trials of a sweep: what no single curve shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.rank.rows import Row
from analysis.rank.score_matrix import ScoreMatrix
from analysis.stats.one_area_winner import one_area_winner
from trainables.diagnostics.finding import Finding


def sweep_findings(score_matrix: ScoreMatrix, rows: Sequence[Row], weights: Mapping[str, float]) -> list[Finding]:
    """What the ranked settings show together.

    Args:
        score_matrix: All checkpoints.
        rows: The leaderboard's, ranked ones first; each ranked one names its `best` checkpoint.
        weights: Weight of each area that selects.
    """
    column = {(c.trial_id, c.step): k for k, c in enumerate(score_matrix.candidates)}
    ranked = [row["best"] for row in rows if row["rank"]]
    items = [_items(score_matrix, column[best["trial_id"], best["step"]]) for best in ranked]
    others = {best["trial_id"]: found for best, found in zip(ranked[1:], items[1:], strict=True)}
    groups = {area: [str(k) for k in score_matrix.design.cluster_of[rows_of]] for area, rows_of in _areas(score_matrix).items()}
    finding = one_area_winner(int(ranked[0]["step"]), items[0], others, groups, weights)
    return [finding] if finding else []


def _areas(score_matrix: ScoreMatrix) -> dict[str, list[int]]:
    """Each area's items, as places in the score_matrix."""
    design = score_matrix.design
    return {area: (design.area_of == index).nonzero()[0].tolist() for index, area in enumerate(design.areas)}


def _items(score_matrix: ScoreMatrix, column: int) -> dict[str, list[float]]:
    """One checkpoint's losses by area."""
    return {area: score_matrix.nll[rows, column].tolist() for area, rows in _areas(score_matrix).items()}
