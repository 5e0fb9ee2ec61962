"""The leaderboard as CSV: a line a trial, replicates beneath their settings, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any

from analysis.output.board_figures import answer_metrics
from analysis.output.leaderboard import Interval, Leaderboard, LeaderboardRow

FIRST = ("rank", "tied", "trial_id", "state", "kind", "replicate_of", "seed", "step", "steps", "steps_planned")
SCORES = ("nll", "delta", "exact_match")  # of each area
SETTING = ("objective", "posterior", "posterior_sd", "seeds")
MEASURES = ("objective", "gain", "exact_match", "token_f1", "token_weighted", "trimmed")


def as_csv(board: Leaderboard) -> str:
    """The rows of a leaderboard with a header line; unknown values are empty.

    Returns:
        RFC 4180 with bare line feeds. Columns: the trial; its measures with the ends of the gain's interval; its
        setting's mean over seeds, its posterior mean by the model of all trials, and its difference to the best;
        `param.NAME`; and by area `AREA.nll`, `AREA.delta` (to the base model), `AREA.exact_match` and `AREA.SCORER`
        of the user's own scorers.
    """
    params, areas = sorted({name for row in board["rows"] for name in row["params"]}), sorted(board["weights"])
    scores = [*SCORES, *(name for name in answer_metrics(board) if name not in SCORES)]
    rows = [_flat(one, params, areas, scores) for row in board["rows"] for one in [row, *row["replicates"]]]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or FIRST, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: LeaderboardRow, params: list[str], areas: list[str], scores: list[str]) -> dict[str, Any]:
    setting: dict[str, Any] = {**(row["setting"] or {})}
    values: dict[str, Any] = {**row}
    flat = {name: values[name] for name in (*FIRST, *MEASURES)}
    flat |= _ends("gain", row["gain_interval"])
    flat |= {f"setting_{name}": setting.get(name) for name in SETTING}
    flat |= {"behind": setting.get("behind"), **_ends("behind", setting.get("behind_interval"))}
    flat |= {"guard_rail": row["guard_rail"], "findings": row["findings"]}
    flat |= {name: row["cost"].get(name) for name in ("device_seconds", "wall_seconds")}
    flat |= {f"param.{name}": row["params"].get(name) for name in params}
    for area in areas:
        found = row["areas"].get(area, {})
        flat |= {f"{area}.{name}": found.get(name) for name in scores if name in found or name in SCORES}
    return flat


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
