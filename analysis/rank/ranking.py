"""From the score_matrix to the leaderboard's parts: winner, ties, guard-rails and what is shown beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.rank import sensitivity
from analysis.rank.candidates import Base, Candidate, Figures, finite
from analysis.rank.rows import Row, make_rows, ordered, pair, unranked_place
from analysis.rank.score_matrix import ScoreMatrix, checkpoint_figures
from analysis.rank.settings import SettingTable, setting_figures
from analysis.records.sweep import Sweep
from analysis.stats import bootstrap
from analysis.stats.guard_rails import guard_rails, overall
from analysis.stats.winner_selection import corrected_gain

SCOPE = "items, not seeds"


def ranking(
    sweep: Sweep,
    candidates: list[Candidate],
    base: Base,
    baseline: Figures,
    score_matrix: ScoreMatrix,
    setting_table: SettingTable,
) -> dict[str, Any]:
    """The leaderboard's parts where there is a winner; their meaning is told in
    `analysis.rank.leaderboard.leaderboard`.

    Args:
        sweep: The sweep.
        candidates: All checkpoints of complete trials.
        base: The base model's items.
        baseline: Its `objective` and `areas`.
        score_matrix: The checkpoints that can be ranked.
        setting_table: The settings that they belong to.
    """
    rule, totals = setting_table.rule, score_matrix.objectives()[None, :]
    setting = int(rule.best_settings(totals)[0])
    best = [int(rule.best_checkpoints(totals, np.array([k]))[0]) for k in range(len(setting_table.settings))]
    figures = checkpoint_figures(score_matrix, best[setting], baseline)
    by_pair = {(c.trial_id, c.step): figure for c, figure in zip(score_matrix.candidates, figures, strict=True)}
    rows = make_rows(sweep.trials, candidates, by_pair)
    _add_guard_rails(rows, score_matrix, dict(zip(setting_table.settings, best, strict=True)), sweep.not_worse_by)
    rows = ordered(rows, setting_table, setting_figures(setting_table, score_matrix, setting, baseline["objective"]))
    passing = next((row for row in rows if row["guard_rail"] == "pass"), None)
    gain = _winner_gain(score_matrix, setting_table, figures[best[setting]])
    return {
        "winner": score_matrix.pair(best[setting]),
        "winner_setting": setting_table.settings[setting],
        "winner_gain": gain,
        "tied": [pair(row) for row in rows if row["tied"]],
        "verdict": "",
        "rows": rows,
        "intervals": _intervals(len(score_matrix.candidates), gain),
        "separation": _separation(setting_table),
        "guard_rails": {
            "allowed": dict(sweep.not_worse_by),
            "method": "one-sided paired t-tests over clusters, 5 %, Holm over areas",
            "winner": rows[0]["guard_rail"],
            "best_passing": passing["best"] if passing else None,
        },
        "beside": {
            "other_measures": sensitivity.by_other_measures(
                score_matrix, figures, _competing(score_matrix, setting_table)
            ),
            "variance_share": sensitivity.variance_shares(score_matrix, best),
            "leave_one_area_out": sensitivity.leave_one_area_out(score_matrix, rule),
            "lost_items": sensitivity.lost_items(score_matrix, best[setting], best[:setting] + best[setting + 1 :]),
        },
        "sealed": sensitivity.sealed_figures(score_matrix.candidates[best[setting]], base, sweep.sealed),
    }


def without_ranking(sweep: Sweep, candidates: list[Candidate]) -> dict[str, Any]:
    """The same parts where nothing can be ranked."""
    rows = sorted(make_rows(sweep.trials, candidates, {}), key=unranked_place)
    nothing = {"winner": None, "winner_setting": None, "winner_gain": None, "tied": [], "verdict": "", "rows": rows}
    return {
        **nothing,
        "intervals": _intervals(0, None),
        "separation": None,
        "guard_rails": None,
        "beside": None,
        "sealed": {},
    }


def few_clusters(design: bootstrap.Design) -> list[str]:
    """A note on areas whose intervals are too narrow; none where there is nothing to say."""
    few = [f"{a} {n}" for a, n in zip(design.areas, design.clusters, strict=True) if n < bootstrap.FEW_CLUSTERS]
    what = f"fewer than {bootstrap.FEW_CLUSTERS} clusters of items ({', '.join(few)})"
    return [f"intervals are too narrow where an area has {what}"] if few else []


def _add_guard_rails(
    rows: list[Row], score_matrix: ScoreMatrix, best: dict[str, int], allowed: Mapping[str, float]
) -> None:
    """Puts into each setting's row its best checkpoint (a column of the score_matrix) and how that fares."""
    scored = bool(np.all(np.isfinite(score_matrix.base_nll)))
    for row in rows:
        if row["trial_id"] in best:
            column = best[row["trial_id"]]
            rails = guard_rails(score_matrix.design, -score_matrix.gains[:, column], allowed if scored else {})
            row["best"] = score_matrix.pair(column)
            row["guard_rails"] = {area: asdict(rail) for area, rail in rails.items()}
            row["guard_rail"] = overall(rails)


def _winner_gain(score_matrix: ScoreMatrix, setting_table: SettingTable, figures: Figures) -> Figures | None:
    """The gain of the winner's checkpoint: plain, and corrected, whose interval is the plain one moved along."""
    plain, interval = figures["gain"], figures["gain_interval"]
    if plain is None:
        return None
    corrected = finite(corrected_gain(setting_table.rule, score_matrix.draws, score_matrix.gains))
    moved = None if corrected is None or interval is None else [bound - plain + corrected for bound in interval]
    return {"plain": plain, "plain_interval": interval, "corrected": corrected, "corrected_interval": moved}


def _intervals(checkpoints: int, gain: Figures | None) -> dict[str, Any]:
    corrected = None if gain is None else gain["corrected"]
    figure = "not corrected" if corrected is None else f"{corrected:.3f} when corrected"
    of_winner = f"optimistic: the lowest of {checkpoints} checkpoints; {figure} for having been selected"
    return {
        "level": bootstrap.LEVEL,
        "method": "paired bootstrap of clusters of items, stratified by area, percentile",
        "resamples": bootstrap.RESAMPLES,
        "scope": SCOPE,
        "winner": of_winner if checkpoints != 1 else "that of the only checkpoint: nothing was selected",
    }


def _separation(setting_table: SettingTable) -> dict[str, Any]:
    sd = setting_table.seed_sd
    shown, shown_df = sd.shown
    return {
        "level": 1 - setting_table.separation.alpha,
        "method": "t-intervals over items and seeds; Bonferroni over pairs of settings, and over rounds of replicates",
        "comparisons": len(setting_table.settings) - 1,
        "seed_sd": shown,
        "seed_sd_unblocked": sd.total,
        "seed_sd_single": sd.single,
        "seed_sd_source": sd.source,
        "seed_sd_df": finite(shown_df),
        "seed_sd_unblocked_df": finite(sd.total_df),
        "blocked_by_seed": setting_table.blocked,
    }


def _competing(score_matrix: ScoreMatrix, setting_table: SettingTable) -> list[int]:
    rule = setting_table.rule
    return [k for k in range(len(score_matrix.candidates)) if rule.setting_of[rule.trial_of[k]] >= 0]
