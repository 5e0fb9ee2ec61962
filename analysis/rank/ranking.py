"""From the setting table to the leaderboard's parts: winner, ties, guard-rails, sensitivity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from analysis.output.leaderboard import Figures, LeaderboardRow, Model, Recommended, SeparationMethod, WinnerGain
from analysis.rank import sensitivity
from analysis.rank.candidates import Base, Candidate, finite
from analysis.rank.rows import make_rows, ordered, pair, unranked_place
from analysis.rank.score_matrix import ScoreMatrix, checkpoint_figures
from analysis.rank.setting_figures import model_decides, setting_figures
from analysis.rank.settings import SettingTable
from analysis.records.sweep import Sweep
from analysis.stats import bootstrap
from analysis.stats.guard_rails import guard_rails, overall
from analysis.stats.winner_selection import corrected_gain
from analysis.stats.worthwhile import recommended_outcome

SCOPE = "items, not seeds"


def ranking(sweep: Sweep, candidates: list[Candidate], base: Base, table: SettingTable) -> dict[str, Any]:
    """The leaderboard's parts where there is a winner; see `analysis.rank.leaderboard.leaderboard`.

    Args:
        sweep: The sweep.
        candidates: All checkpoints of complete trials.
        base: The base model.
        table: The settings, and the candidates that can be ranked.
    """
    matrix, rule = table.matrix, table.rule
    totals = matrix.objectives()[None, :]
    setting = int(rule.best_settings(totals)[0])
    best = [int(rule.best_checkpoints(totals, np.array([k]))[0]) for k in range(len(table.settings))]
    winner, others = best[setting], best[:setting] + best[setting + 1 :]
    figures = checkpoint_figures(matrix, winner, base.summary)
    by_pair = {(c.trial_id, c.step): figure for c, figure in zip(matrix.candidates, figures, strict=True)}
    rows = make_rows(sweep.trials, candidates, by_pair)
    _add_guard_rails(rows, matrix, dict(zip(table.settings, best, strict=True)), sweep.not_worse_by)
    rows = ordered(rows, table, setting_figures(table, setting, base.summary["objective"]))
    passing = next((row for row in rows if row["guard_rail"] == "pass"), None)
    gain = _winner_gain(table, figures[winner])
    competing = [k for k, trial in enumerate(rule.trial_of) if rule.setting_of[trial] >= 0]
    return {
        "winner": matrix.pair(winner),
        "winner_setting": table.settings[setting],
        "winner_gain": gain,
        "tied": [pair(row) for row in rows if row["tied"]],
        "verdict": "",
        "rows": rows,
        "intervals": _intervals(len(matrix.candidates), gain),
        "separation": _separation(table, setting),
        "recommended": _recommended(sweep, rows),
        "guard_rails": {
            "allowed": dict(sweep.not_worse_by),
            "method": "one-sided paired t-tests over clusters, 5 %, Holm over areas",
            "winner": rows[0]["guard_rail"],
            "best_passing": passing["best"] if passing else None,
        },
        "beside": {
            "other_measures": sensitivity.by_other_measures(matrix, figures, competing),
            "agreement": sensitivity.agreement(matrix, rule, winner, competing),
            "variance_share": sensitivity.variance_shares(matrix, best),
            "leave_one_area_out": sensitivity.leave_one_area_out(matrix, rule),
            "lost_items": sensitivity.lost_items(matrix, winner, others),
        },
        "sealed": sensitivity.sealed_figures(matrix.candidates[winner], base, sweep.sealed),
        "retrained": sensitivity.retrained_figures(sweep, matrix.candidates[winner], base),
    }


def without_ranking(sweep: Sweep, candidates: list[Candidate]) -> dict[str, Any]:
    """The same parts where nothing can be ranked."""
    rows = sorted(make_rows(sweep.trials, candidates, {}), key=unranked_place)
    nothing = {"winner": None, "winner_setting": None, "winner_gain": None, "tied": [], "verdict": "", "rows": rows}
    return {
        **nothing,
        "intervals": _intervals(0, None),
        "separation": None,
        "recommended": None,
        "guard_rails": None,
        "beside": None,
        "sealed": {},
        "retrained": None,
    }


def few_clusters(design: bootstrap.Design) -> list[str]:
    """A note on areas whose intervals are too narrow, if any."""
    few = [f"{a} {n}" for a, n in zip(design.areas, design.clusters, strict=True) if n < bootstrap.FEW_CLUSTERS]
    what = f"fewer than {bootstrap.FEW_CLUSTERS} clusters of items ({', '.join(few)})"
    return [f"intervals are too narrow where an area has {what}"] if few else []


def _add_guard_rails(
    rows: list[LeaderboardRow], matrix: ScoreMatrix, best: dict[str, int], allowed: Mapping[str, float]
) -> None:
    """Adds each setting's best checkpoint (a column of the matrix) and its guard-rails to the setting's row."""
    scored, shares = bool(np.all(np.isfinite(matrix.base_values))), matrix.measure.higher_is_better
    for row in rows:
        if row["trial_id"] in best:
            column = best[row["trial_id"]]
            rails = guard_rails(matrix.design, -matrix.gains[:, column], allowed if scored else {}, shares)
            row["best"] = matrix.pair(column)
            row["guard_rails"] = {area: asdict(rail) for area, rail in rails.items()}
            row["guard_rail"] = overall(rails)


def _winner_gain(table: SettingTable, figures: Figures) -> WinnerGain | None:
    plain, interval = figures["gain"], figures["gain_interval"]
    if plain is None:
        return None
    corrected = finite(corrected_gain(table.rule, table.matrix.draws, table.matrix.gains))
    # The correction moves the interval along and leaves its width.
    moved = None if corrected is None or interval is None else [bound - plain + corrected for bound in interval]
    return {"plain": plain, "plain_interval": interval, "corrected": corrected, "corrected_interval": moved}


def _intervals(checkpoints: int, gain: WinnerGain | None) -> Figures:
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


def _recommended(sweep: Sweep, rows: list[LeaderboardRow]) -> Recommended | None:
    row = next((row for row in rows if row["trial_id"] == sweep.recommended_trial), None)
    if row and row["state"] == "diverged":
        return {
            "trial_id": row["trial_id"],
            "lead": None,
            "lead_interval": None,
            "worthwhile": sweep.worthwhile,
            "outcome": "diverged",
        }
    if row is None or not row["rank"] or row["setting"] is None:
        return None
    found, interval = row["setting"], row["setting"]["behind_interval"]
    return {
        "trial_id": row["trial_id"],
        "lead": found["behind"],
        "lead_interval": interval,
        "worthwhile": sweep.worthwhile,
        "outcome": recommended_outcome(row["rank"] == 1, interval, sweep.worthwhile),
    }


def _separation(table: SettingTable, winner: int) -> SeparationMethod:
    sd, posterior = table.seed_sd, table.posterior
    model: Model | None = None
    if posterior:
        model = {
            "trials": posterior.trials,
            "seeds": posterior.seeds,
            "df": posterior.model.df,
            "seed_sd": float(posterior.model.noise_sd[winner]),
            "claims": posterior.claims,
            "curve": posterior.curve,
        }
    return {
        "level": 1 - table.separation.alpha,
        "method": "t-intervals over items and seeds, by replicates of both settings, or by a model of all trials where "
        "these are none or leave less than two degrees of freedom; Bonferroni over pairs of settings, and over rounds",
        "comparisons": len(table.settings) - 1,
        "seed_sd": sd.single,
        "seed_sd_unblocked": sd.total,
        "seed_sd_single": sd.single,
        "seed_sd_source": "rotation" if model_decides(table) else sd.source,
        "seed_sd_df": None if sd.single is None else finite(sd.single_df),
        "seed_sd_unblocked_df": None if sd.total is None else finite(sd.total_df),
        "blocked_by_seed": table.blocked,
        "model": model,
    }
