"""The leaderboard: every checkpoint of every complete trial, compared on all held-out items.

The objective is the weighted mean over selecting areas of the items' mean NLL, or 1 minus another metric that decides
(`objective.metric`), lowest first. Replicates are folded into the setting that they repeat (`analysis.rank.settings`);
the winner is the lowest checkpoint of all trials of its setting. A trial without held-out scores, or without answers
where these decide, has no rank: no other measure takes their place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from analysis.advice.advice import advise
from analysis.advice.observe import observe
from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.output.verdict import verdict
from analysis.rank.about import about
from analysis.rank.candidates import read_candidates
from analysis.rank.ranking import few_clusters, ranking, without_ranking
from analysis.rank.score_matrix import ScoreMatrix, make_score_matrix
from analysis.rank.settings import make_setting_table
from analysis.rank.subset_trials import SUBSET, what_more_data_brings
from analysis.records.json_files import read_json
from analysis.records.sweep import read_sweep
from analysis.stats.one_area_winner import one_area_winner
from analysis.suspects.find import LISTED, suspects_or_reason
from trainables.diagnostics.finding import Finding
from trainables.storage.atomic import write_whole
from trainables.storage.layout import LEADERBOARD_FILE, PLAN_FILE


def leaderboard(folder: str | Path) -> Leaderboard:
    """Ranks a sweep's trials.

    Args:
        folder: The sweep's folder.

    Returns:
        `winner`: the lowest checkpoint of the winning setting, which may be a replicate's; None where no complete trial
        has held-out scores. `winner_setting`: its search trial. `tied`: a pair for each setting that is not
        significantly worse, items and seeds included. `rows`: one a setting, its replicates within; ranked ones first,
        then complete ones without scores, then the rest. `beside`: other measures, areas' shares, the winner without
        each area, items that it loses. `findings`: of the sweep as a whole. `advice`: for the next
        one. Types: `analysis.output.leaderboard`.

    Raises:
        UserError: The folder is missing or a file in it can't be read.
    """
    whole = read_sweep(folder)
    notes = list(whole.notes)
    everyone, base = read_candidates(whole, notes)
    # Subset trials see fewer samples: they say what more data brings, and never compete.
    sweep = replace(whole, trials=[trial for trial in whole.trials if trial.kind != SUBSET])
    competing = {trial.trial_id for trial in sweep.trials}
    candidates = [candidate for candidate in everyone if candidate.trial_id in competing]
    able = [candidate for candidate in candidates if candidate.defect is None]
    matrix = make_score_matrix(able, base.scores, sweep.weights, sweep.measure) if able else None
    table = make_setting_table(sweep.trials, matrix, sweep.separation, notes) if matrix else None
    if matrix and table:
        parts = ranking(sweep, candidates, base, table)
        parts["findings"] = sweep_findings(matrix, parts["rows"], sweep.weights)
        notes += few_clusters(matrix.design)
    else:
        parts = {**without_ranking(sweep, candidates), "findings": []}
    seed_sd = table.seed_sd.single if table else sweep.separation.seed_sd
    # Subsets are compared by loss; seeds were measured in the metric that decides.
    seed_sd = None if sweep.measure.higher_is_better else seed_sd
    parts["more_data"] = what_more_data_brings(whole, everyone, parts["winner_setting"], seed_sd)
    measure = {"metric": sweep.measure.metric, "label": sweep.measure.label, "unit": sweep.measure.unit}
    board: Leaderboard = _plain(
        {
            "name": sweep.name,
            "measure": measure,
            **parts,
            "baseline": base.summary,
            "weights": sweep.weights,
            "notes": notes,
        }
    )
    plan = read_json(whole.folder / PLAN_FILE)
    board["about"] = about(whole, plan)
    board["advice"] = [asdict(one) for one in advise(observe(whole, board, plan))]
    board["verdict"] = verdict(board)
    return board


def write_leaderboard(folder: str | Path) -> Leaderboard:
    """Ranks a sweep and writes `leaderboard.json` into its folder, atomically.

    Returns:
        As `whole_leaderboard`.

    Raises:
        UserError: As `leaderboard`.
        OSError: The file can't be written.
    """
    board = whole_leaderboard(folder)
    save_leaderboard(folder, board)
    return board


def save_leaderboard(folder: str | Path, board: Leaderboard) -> None:
    """Writes `leaderboard.json` into a sweep's folder, atomically; raises OSError where it can't be written."""
    write_whole(Path(folder) / LEADERBOARD_FILE, as_json(board))


def whole_leaderboard(folder: str | Path) -> Leaderboard:
    """As `leaderboard`, and `suspects`: the most suspect training samples, or why there are none."""
    found, reason = suspects_or_reason(folder, LISTED)
    listed = [{"id": one.found.id, "kind": one.found.kind, "excess_nats": one.found.excess_nats} for one in found]
    board = leaderboard(folder)
    board["suspects"] = {"samples": listed, "unknown_because": reason}
    return board


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


def _plain(value: Any) -> Any:
    # JSON has no NaN: a number that isn't finite becomes None.
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(board: Leaderboard) -> str:
    """The text of `leaderboard.json`."""
    return json.dumps(board, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
