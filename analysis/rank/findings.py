"""Findings over all trials of a sweep: what no single curve shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.output.leaderboard import LeaderboardRow
from analysis.rank.score_matrix import ScoreMatrix
from analysis.stats.one_area_winner import one_area_winner
from trainables.diagnostics.finding import Finding


def sweep_findings(matrix: ScoreMatrix, rows: Sequence[LeaderboardRow], weights: Mapping[str, float]) -> list[Finding]:
    """Findings on the ranked settings; `rows` are the leaderboard's, ranked ones first."""
    column = {(c.trial_id, c.step): k for k, c in enumerate(matrix.candidates)}
    design = matrix.design
    members = {area: (design.area_of == index).nonzero()[0] for index, area in enumerate(design.areas)}
    ranked = [best for row in rows if row["rank"] and (best := row["best"])]
    items = [
        {area: matrix.nll[own, column[best["trial_id"], best["step"]]].tolist() for area, own in members.items()}
        for best in ranked
    ]
    others = {best["trial_id"]: found for best, found in zip(ranked[1:], items[1:], strict=True)}
    groups = {area: [str(k) for k in design.cluster_of[own]] for area, own in members.items()}
    finding = one_area_winner(ranked[0]["step"], items[0], others, groups, weights)
    return [finding] if finding else []
