"""What is shown beside the ranking: would another measure, or one area less, have named another winner?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.rank.candidates import Base, Candidate, Figures, area_summary, as_interval
from analysis.rank.score_matrix import ScoreMatrix
from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array
from analysis.stats.winner_selection import Rule

SHOWN_ITEMS = 5
LOWEST_WINS, HIGHEST_WINS = ("token_weighted", "trimmed"), ("exact_match", "token_f1")


def by_other_measures(
    score_matrix: ScoreMatrix, figures: Sequence[Figures], columns: Sequence[int]
) -> dict[str, Figures | None]:
    """The checkpoint that each other measure puts first; None where no checkpoint has it in every area.

    Args:
        score_matrix: All checkpoints.
        figures: Of each column, as `analysis.rank.score_matrix.checkpoint_figures` gives them.
        columns: Which compete. Equals go by the objective.

    Returns:
        By measure, `trial_id`, `step` and the `value`.
    """
    found: dict[str, Figures | None] = {}
    for name in (*LOWEST_WINS, *HIGHEST_WINS):
        sign = 1 if name in LOWEST_WINS else -1
        scored = [
            (sign * figures[k][name], figures[k]["objective"], k) for k in columns if figures[k][name] is not None
        ]
        best = min(scored)[2] if scored else None
        found[name] = None if best is None else {**score_matrix.pair(best), "value": figures[best][name]}
    return found


def leave_one_area_out(score_matrix: ScoreMatrix, rule: Rule) -> dict[str, Figures]:
    """The winner's checkpoint by the same rule without each area in turn; empty with a single area."""
    design = score_matrix.design
    means = bootstrap.area_means(design, score_matrix.nll)
    found: dict[str, Figures] = {}
    for index, area in enumerate(design.areas if len(design.areas) > 1 else ()):
        weights = np.where(np.arange(len(design.areas)) == index, 0.0, design.weights)
        totals = (weights @ means) / weights.sum()
        found[area] = score_matrix.pair(int(rule.choose(totals[None, :])[0]))
    return found


def variance_shares(score_matrix: ScoreMatrix, columns: Sequence[int]) -> dict[str, float] | None:
    """How much of the spread between settings each area brings (item noise included).

    An area's share is the variance of its weighted mean, divided by the sum of all areas' variances: 0 to 1, and 1 in
    all. (Shares by covariance with the objective would add up to its own variance, but where one area's gain is
    another's loss they run to thousands of per cent.)

    Args:
        score_matrix: All checkpoints.
        columns: One checkpoint of each setting.

    Returns:
        By area; None with fewer than two settings or where they do not differ.
    """
    design = score_matrix.design
    parts = design.weights[:, None] * bootstrap.area_means(design, score_matrix.nll[:, list(columns)])
    spread = parts.var(axis=1)
    if len(columns) < 2 or not np.any(np.ptp(parts, axis=1) > 0):
        return None
    return {area: float(share) for area, share in zip(design.areas, spread / spread.sum(), strict=True)}


def lost_items(score_matrix: ScoreMatrix, winner: int, columns: Sequence[int]) -> Figures:
    """Items that the winner loses and others win.

    By loss: the winner's is above the base model's, and some other setting's is below. By answer: the winner's is
    wrong, and some other setting's is right.

    Args:
        score_matrix: All checkpoints.
        winner: Column of the winner's checkpoint.
        columns: One checkpoint of every other setting.

    Returns:
        `loss` and `answer`, each a count by area (None where not measured), and `items`: those by loss with the widest
        gap to the best other, with `area`, `id`, `gap`, `nll`, `base_nll`, `best_nll` and who has it (`best`).
    """
    design, counts, items = score_matrix.design, None, []
    if len(columns) and np.all(np.isfinite(score_matrix.base_nll)):
        others = score_matrix.nll[:, list(columns)]
        best, mine, base = others.min(axis=1), score_matrix.nll[:, winner], score_matrix.base_nll
        lost = (mine > base) & (best < base)
        counts = _by_area(design, lost)
        worst = sorted(np.flatnonzero(lost).tolist(), key=lambda i: (best[i] - mine[i], score_matrix.keys[i]))[
            :SHOWN_ITEMS
        ]
        for i in worst:
            area, name = score_matrix.keys[i]
            figures = {"gap": mine[i] - best[i], "nll": mine[i], "base_nll": base[i], "best_nll": best[i]}
            who = score_matrix.candidates[columns[int(np.argmin(others[i]))]].trial_id
            items.append({"area": area, "id": name, **{k: float(v) for k, v in figures.items()}, "best": who})
    return {"loss": counts, "answer": _lost_answers(score_matrix, winner, columns), "items": items}


def sealed_figures(candidate: Candidate, base: Base, areas: Sequence[str]) -> dict[str, Figures]:
    """The winner's scores in sealed areas, where it was scored there; they have no part in anything else.

    Returns:
        By area its summary, with `delta` to the base model and its interval where the base model was scored too.
    """
    found: dict[str, Figures] = {}
    for area in areas:
        mine = {key: score for key, score in candidate.sealed.items() if key[0] == area}
        if not mine:
            continue
        theirs = {key: score for key, score in base.sealed.items() if key[0] == area}
        found[area] = {**area_summary(mine, area, {}), "delta": None, "delta_interval": None}
        if set(theirs) == set(mine):
            keys = sorted(mine)
            design = bootstrap.make_design([area] * len(keys), [mine[key].group for key in keys], {area: 1.0})
            differences = np.array([[mine[key].nll - theirs[key].nll] for key in keys])
            bounds = bootstrap.percentile_interval(bootstrap.Bootstrap(design).objective(differences))
            found[area] |= {"delta": float(differences.mean()), "delta_interval": as_interval(bounds[:, 0])}
    return found


def _lost_answers(score_matrix: ScoreMatrix, winner: int, columns: Sequence[int]) -> dict[str, int] | None:
    right = {k: _right(score_matrix, k) for k in [winner, *columns]}
    answered = [right[k] for k in columns if not np.isnan(right[k]).any()]
    if np.isnan(right[winner]).any() or not answered:
        return None
    return _by_area(score_matrix.design, (right[winner] < 1) & (np.stack(answered) == 1).any(axis=0))


def _right(score_matrix: ScoreMatrix, column: int) -> Array:
    """(items,) exact match; NaN where no answer was generated."""
    scores = score_matrix.candidates[column].scores
    return np.array(
        [np.nan if scores[key].exact_match is None else scores[key].exact_match for key in score_matrix.keys]
    )


def _by_area(design: bootstrap.Design, marked: np.ndarray) -> dict[str, int]:
    return {area: int(marked[design.area_of == index].sum()) for index, area in enumerate(design.areas)}
