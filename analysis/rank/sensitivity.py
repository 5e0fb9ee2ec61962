"""Sensitivity of the winner: would another metric, or leaving one area out, change it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.output.leaderboard import CheckpointName, Figures
from analysis.rank.candidates import Base, Candidate, Scores, area_summary, as_interval, decision_values
from analysis.rank.score_matrix import ScoreMatrix
from analysis.records.sweep import Sweep
from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array
from analysis.stats.rare_disagreement import cluster_parts, few_disagree, sign_flip_p
from analysis.stats.winner_selection import Rule
from trainables.evaluation.objective import Measure

SHOWN_ITEMS = 5
# 1: the lowest wins; -1: the highest
SIGNS = {"nll": 1, "token_weighted": 1, "trimmed": 1, "exact_match": -1, "token_f1": -1}


def by_other_measures(
    matrix: ScoreMatrix, figures: Sequence[Figures], columns: Sequence[int]
) -> dict[str, Figures | None]:
    """The checkpoint that each other measure puts first; None where no checkpoint has it in every area.

    Args:
        matrix: All candidates.
        figures: Of each column, as `analysis.rank.score_matrix.checkpoint_figures` gives them.
        columns: Those that compete. Equals go by the objective.

    Returns:
        By measure, `trial_id`, `step` and the `value`.
    """
    found: dict[str, Figures | None] = {}
    for name, sign in SIGNS.items():
        if name == matrix.measure.metric:
            continue
        scored = [
            (sign * figures[k][name], figures[k]["objective"], k) for k in columns if figures[k][name] is not None
        ]
        best = min(scored)[2] if scored else None
        found[name] = None if best is None else {**matrix.pair(best), "value": figures[best][name]}
    return found


def agreement(matrix: ScoreMatrix, rule: Rule, winner: int, columns: Sequence[int]) -> Figures | None:
    """Whether loss and task metric put the same setting first; the task metric is the one that decides, or exact match.

    Args:
        matrix: All candidates.
        rule: How the winner was chosen.
        winner: Column of the winner's checkpoint.
        columns: Those that compete.

    Returns:
        `metric`, `loss_first` and `metric_first` (the checkpoints), `difference`: the metric of the second less that of
        the first, with its 95 % `interval` over items, `p` (exact, where few items differ, else None), and `agrees`:
        both are of one setting, or equal by what does not decide. None where there are not two settings with answers,
        or where all are equal by what does not decide, such as an exact match of 0.
    """
    task = Measure("exact_match") if matrix.measure == Measure() else matrix.measure
    keys, found = matrix.keys, matrix.candidates
    values = np.array([decision_values(candidate.scores, keys, task) for candidate in found]).T
    answered = [k for k in columns if np.all(np.isfinite(values[:, k]))]
    if winner not in answered or len({rule.setting_of[rule.trial_of[k]] for k in answered}) < 2:
        return None
    other = values if task != matrix.measure else matrix.nll
    totals = bootstrap.objective(matrix.design, other)
    if np.ptp(totals[answered]) < 1e-9:
        return None
    # Ties go to the winner: a metric in which another is no better does not disagree.
    first = min(answered, key=lambda k: (round(float(totals[k]), 9), k != winner, k))
    by_loss, by_metric = (winner, first) if task != matrix.measure else (first, winner)
    differences = values[:, by_loss] - values[:, by_metric]
    scored = replace(matrix, measure=task)
    parts, _ = cluster_parts(matrix.design, differences)
    resampled = matrix.draws.objective(differences[:, None])[:, 0]
    return {
        "metric": task.label,
        "decides": task == matrix.measure,
        "agrees": bool(rule.setting_of[rule.trial_of[first]] == rule.setting_of[rule.trial_of[winner]]),
        "loss_first": matrix.pair(by_loss),
        "metric_first": matrix.pair(by_metric),
        "difference": float(bootstrap.objective(matrix.design, differences[:, None])[0]),
        "interval": scored.interval(differences, resampled),
        "p": sign_flip_p(parts) if few_disagree(parts) else None,
    }


def leave_one_area_out(matrix: ScoreMatrix, rule: Rule) -> dict[str, CheckpointName]:
    """The winner's checkpoint by the same rule without each area in turn; empty with a single area."""
    design = matrix.design
    means = bootstrap.area_means(design, matrix.values)
    found = {}
    for index, area in enumerate(design.areas if len(design.areas) > 1 else ()):
        weights = np.where(np.arange(len(design.areas)) == index, 0.0, design.weights)
        totals = (weights @ means) / weights.sum()
        found[area] = matrix.pair(int(rule.choose(totals[None, :])[0]))
    return found


def variance_shares(matrix: ScoreMatrix, columns: Sequence[int]) -> dict[str, float] | None:
    """Each area's share in the spread between settings (item noise included): 0 to 1, and 1 in all.

    `columns` names one checkpoint of each setting. None with fewer than two settings or where they do not differ.
    """
    design = matrix.design
    parts = design.weights[:, None] * bootstrap.area_means(design, matrix.values[:, list(columns)])
    # Variances of the areas' weighted means. Shares by covariance with the objective would add up to its own variance,
    # but where one area's gain is another's loss they run to thousands of per cent.
    spread = parts.var(axis=1)
    if len(columns) < 2 or not np.any(np.ptp(parts, axis=1) > 0):
        return None
    return {area: float(share) for area, share in zip(design.areas, spread / spread.sum(), strict=True)}


def lost_items(matrix: ScoreMatrix, winner: int, columns: Sequence[int]) -> Figures:
    """Items that the winner loses and others win.

    By loss: the winner's is above the base model's, and some other setting's is below. By answer: the winner's is
    wrong, and some other setting's is right.

    Args:
        matrix: All candidates.
        winner: Column of the winner's checkpoint.
        columns: One checkpoint of every other setting.

    Returns:
        `loss` and `answer`, each a count by area (None where not measured), and `items`: those by loss with the widest
        gap to the best other, with `area`, `id`, `gap`, `nll`, `base_nll`, `best_nll` and its trial (`best`).
    """
    design, counts, items = matrix.design, None, []
    if len(columns) and np.all(np.isfinite(matrix.base_nll)):
        others = matrix.nll[:, list(columns)]
        best, own, base = others.min(axis=1), matrix.nll[:, winner], matrix.base_nll
        lost = (own > base) & (best < base)
        counts = _by_area(design, lost)
        worst = sorted(np.flatnonzero(lost).tolist(), key=lambda i: (best[i] - own[i], matrix.keys[i]))
        for i in worst[:SHOWN_ITEMS]:
            area, name = matrix.keys[i]
            figures = {"gap": own[i] - best[i], "nll": own[i], "base_nll": base[i], "best_nll": best[i]}
            trial = matrix.candidates[columns[int(np.argmin(others[i]))]].trial_id
            items.append({"area": area, "id": name, **{k: float(v) for k, v in figures.items()}, "best": trial})
    return {"loss": counts, "answer": _lost_answers(matrix, winner, columns), "items": items}


def sealed_figures(candidate: Candidate, base: Base, areas: Sequence[str]) -> dict[str, Figures]:
    """The winner's scores in sealed areas, where it was scored there.

    Returns:
        By area its summary, with `delta` to the base model and its interval where the base model was scored too.
    """
    found: dict[str, Figures] = {}
    for area in areas:
        own = {key: score for key, score in candidate.sealed.items() if key[0] == area}
        if not own:
            continue
        before = {key: score for key, score in base.sealed.items() if key[0] == area}
        found[area] = {**area_summary(own, area, {}), **_difference(own, before)}
    return found


def retrained_figures(sweep: Sweep, winner: Candidate, base: Base) -> Figures | None:
    """The winner's retraining in sealed areas; None without one, or where it was not scored there.

    Returns:
        `trial_id`, `step`, `sealed` (as `sealed_figures`), and `delta`, `delta_interval`: its mean loss over all sealed
        items less the winner's, nats a token. `worse`: whether that interval lies above 0.
    """
    trial = sweep.retrained
    if trial is None:
        return None
    # Its first checkpoint is that at the winner's fraction of the epoch; only that one is scored.
    step = int(trial.checkpoints[0]["step"])
    scores = sweep.heldout(trial.trial_id).by_step.get(step, {})
    own = replace(winner, sealed={key: score for key, score in scores.items() if key[0] in sweep.sealed})
    if not own.sealed:
        return None
    against = _difference(own.sealed, winner.sealed)
    bounds = against["delta_interval"]
    return {
        "trial_id": trial.trial_id,
        "step": step,
        "sealed": sealed_figures(own, base, sweep.sealed),
        **against,
        "worse": bounds is not None and bounds[0] > 0,
    }


def _difference(own: Scores, other: Scores) -> Figures:
    """Mean difference of the items' losses, areas alike, and its interval; None where the items differ."""
    if own.keys() != other.keys():
        return {"delta": None, "delta_interval": None}
    keys = sorted(own)
    areas = [area for area, _ in keys]
    design = bootstrap.make_design(areas, [own[key].group for key in keys], dict.fromkeys(areas, 1.0))
    differences = np.array([[own[key].nll - other[key].nll] for key in keys])
    bounds = bootstrap.percentile_interval(bootstrap.Bootstrap(design).objective(differences))
    return {"delta": float(bootstrap.objective(design, differences)[0]), "delta_interval": as_interval(bounds[:, 0])}


def _lost_answers(matrix: ScoreMatrix, winner: int, columns: Sequence[int]) -> dict[str, int] | None:
    right = {k: _right(matrix, k) for k in [winner, *columns]}
    answered = [right[k] for k in columns if not np.isnan(right[k]).any()]
    if np.isnan(right[winner]).any() or not answered:
        return None
    return _by_area(matrix.design, (right[winner] < 1) & (np.stack(answered) == 1).any(axis=0))


def _right(matrix: ScoreMatrix, column: int) -> Array:
    """(items,) exact match; NaN where no answer was generated."""
    scores = matrix.candidates[column].scores
    return np.array([scores[key].exact_match for key in matrix.keys], dtype=float)  # None becomes NaN


def _by_area(design: bootstrap.Design, marked: np.ndarray) -> dict[str, int]:
    return {area: int(marked[design.area_of == index].sum()) for index, area in enumerate(design.areas)}
