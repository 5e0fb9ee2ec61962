"""The leaderboard as CSV: a line a trial, replicates beneath their settings, for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

FIRST = ("rank", "tied", "trial_id", "state", "kind", "replicate_of", "seed", "step", "steps", "steps_planned")
MEASURES = ("objective", "gain", "exact_match", "token_f1", "token_weighted", "trimmed")


def as_csv(board: dict[str, Any]) -> str:
    """The rows of a leaderboard with a header line; what isn't known is empty.

    Args:
        board: What `analysis.rank.leaderboard.leaderboard` returns.

    Returns:
        RFC 4180 with bare line feeds. Columns: the trial, its measures with the ends of the gain's interval, its
        setting's mean over seeds and what it lies behind the first, `param.NAME`, and by area `AREA.nll`,
        `AREA.delta` (to the base model) and `AREA.exact_match`.
    """
    rows = [flat for row in board["rows"] for flat in _flattened(row, board)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or FIRST, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flattened(row: Row, board: dict[str, Any]) -> Iterator[Row]:
    params = sorted({name for other in board["rows"] for name in other["params"]})
    yield _flat(row, params, sorted(board["weights"]))
    for replicate in row["replicates"]:
        yield _flat(replicate, params, sorted(board["weights"]))


def _flat(row: Row, params: list[str], areas: list[str]) -> Row:
    setting = row["setting"] or {}
    flat: Row = {name: row[name] for name in (*FIRST, *MEASURES)}
    flat |= _ends("gain", row["gain_interval"])
    flat |= {"setting_objective": setting.get("objective"), "setting_seeds": setting.get("seeds")}
    flat |= {"behind": setting.get("behind"), **_ends("behind", setting.get("behind_interval"))}
    flat |= {"guard_rail": row["guard_rail"], "findings": row["findings"]}
    flat |= {f"{name}": row["cost"].get(name) for name in ("device_seconds", "wall_seconds")}
    flat |= {f"param.{name}": row["params"].get(name) for name in params}
    for area in areas:
        found = row["areas"].get(area, {})
        flat |= {f"{area}.{name}": found.get(name) for name in ("nll", "delta", "exact_match")}
    return flat


def _ends(name: str, interval: list[float] | None) -> Row:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
