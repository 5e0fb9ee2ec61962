"""The leaderboard: every checkpoint of every complete trial, compared on the whole of the held-out areas.

Run `python -m analysis.rank DIR` for the table. The objective is the weighted mean over selecting areas of the items'
mean NLL, lowest first. Replicates are folded into the setting that they repeat (`analysis.rank.settings`); the
winner is
the lowest checkpoint of all trials of the winning setting. A trial without held-out scores has no rank; nothing else
(training loss, say) is put in their place.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.rank.candidates import baseline_summary, read_candidates
from analysis.rank.findings import sweep_findings
from analysis.rank.ranking import few_clusters, ranking, without_ranking
from analysis.rank.score_matrix import gather
from analysis.rank.settings import make_setting_table
from analysis.rank.subset_trials import SUBSET, what_more_data_brings
from analysis.rank.verdict import verdict
from analysis.records.sweep import read_sweep
from analysis.suspects.find import LISTED, suspects_or_reason
from trainables.storage.atomic import write_whole
from trainables.storage.layout import LEADERBOARD_FILE


def leaderboard(folder: str | Path) -> dict[str, Any]:
    """Ranks a sweep's trials.

    Args:
        folder: The sweep's folder.

    Returns:
        `winner` ({"trial_id", "step"}: the lowest checkpoint of the winning setting, which may be a replicate's; None
        where no complete trial has held-out scores), `winner_setting` (its search trial), `winner_gain` (plain, which
        is optimistic, and corrected for having been selected), `tied` (a pair for each setting that is not told apart
        from the winner, items and seeds included), `rows` (one a setting, its replicates within: ranked ones first,
        then complete ones without scores, then the rest), `verdict` (a sentence or two), `baseline`, `weights`,
        `intervals` (of checkpoints: how they were made and what they leave out), `separation` (of settings: seed
        variance and where it is known from), `guard_rails`, `beside` (other measures, areas' shares, the winner with
        an area left out, items that it loses), `findings` (of the sweep as a whole), `more_data`, `sealed`, `notes`.
        Losses are in nats a token; an interval is `[low, high]`; what isn't known is None.

    Raises:
        UserError: The folder is missing or a file in it can't be read.
    """
    whole = read_sweep(folder)
    notes = list(whole.notes)
    everyone, base = read_candidates(whole, notes)
    sweep = replace(whole, trials=[trial for trial in whole.trials if trial.kind != SUBSET])
    competing = {trial.trial_id for trial in sweep.trials}
    candidates = [candidate for candidate in everyone if candidate.trial_id in competing]
    baseline = baseline_summary(sweep, base.scores)
    able = [candidate for candidate in candidates if candidate.defect is None]
    score_matrix = gather(able, base.scores, sweep.weights) if able else None
    setting_table = make_setting_table(sweep.trials, score_matrix, sweep.separation, notes) if score_matrix else None
    if score_matrix and setting_table:
        parts = ranking(sweep, candidates, base, baseline, score_matrix, setting_table)
        parts["findings"] = sweep_findings(score_matrix, parts["rows"], sweep.weights)
        notes += few_clusters(score_matrix.design)
    else:
        parts = {**without_ranking(sweep, candidates), "findings": []}
    seed_sd = setting_table.seed_sd.single if setting_table else None
    parts["more_data"] = what_more_data_brings(whole, everyone, parts["winner_setting"], seed_sd)
    board = {"name": sweep.name, **parts, "baseline": baseline, "weights": sweep.weights, "notes": notes}
    return _plain({**board, "verdict": verdict(board)})


def write_leaderboard(folder: str | Path) -> dict[str, Any]:
    """Ranks a sweep and writes `leaderboard.json` into its folder (beside itself, then renamed).

    Returns:
        What `leaderboard` returns, and `suspects`: the training samples that most deserve a look, or why there are
        none.

    Raises:
        UserError: As `leaderboard`.
        OSError: The file can't be written.
    """
    found, reason = suspects_or_reason(folder, LISTED)
    listed = [{"id": one.found.id, "kind": one.found.kind, "excess_nats": one.found.excess_nats} for one in found]
    board = {**leaderboard(folder), "suspects": {"samples": listed, "unknown_because": reason}}
    write_whole(Path(folder) / LEADERBOARD_FILE, as_json(board))
    return board


def _plain(value: Any) -> Any:
    """The same with None for every number that isn't finite, for JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(board: dict[str, Any]) -> str:
    """The text of `leaderboard.json`."""
    return json.dumps(board, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
