"""The leaderboard: every setting with its figures, gain interval as a bar, and hyper-parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.output.formats import UNKNOWN, measure_of, number, scored, with_interval
from analysis.output.leaderboard_notes import VS_BEST, legend, lines_below
from analysis.report.elements.blocks import Bar, Cell, Points, Section, Table
from analysis.report.elements.material import Material, Row

OPEN_ROWS = 20


def section(material: Material) -> Section:
    board, rows = material.board, material.board["rows"]
    blocks: list[Any] = [_table(material, rows[:OPEN_ROWS], f"Leaderboard of {board['name']}", None)]
    if len(rows) > OPEN_ROWS:
        folded = f"The other {len(rows) - OPEN_ROWS} settings"
        blocks.append(_table(material, rows[OPEN_ROWS:], "Leaderboard, continued", folded))
    if board["winner"]:
        blocks.append(Points([("", line) for line in legend(board)]))
    blocks.append(Points([("", line) for line in lines_below(board)]))
    return Section("leaderboard", "Leaderboard", blocks)


def _table(material: Material, rows: list[Row], caption: str, folded: str | None) -> Table:
    board = material.board
    names = sorted({name for row in board["rows"] for name in row["params"]}, key=lambda n: (n != "peak_lr", n))
    replicated = any(row["setting"] and row["setting"]["replicated"] for row in board["rows"])
    railed = any(row.get("guard_rail") for row in board["rows"])
    reach = reach_of(row["gain_interval"] for row in board["rows"])
    header = [
        "rank",
        "trial",
        "state",
        measure_of(board).label,
        "gain",
        *(["over seeds"] if replicated else []),
        VS_BEST,
    ]
    header += [*(["guard-rails"] if railed else []), *names, "findings", "device s"]
    cells: list[list[Cell | str]] = []
    for row in rows:
        setting: Mapping[str, Any] = row["setting"] or {}
        seeds = (
            f"{scored(board, setting.get('objective'))} ({setting.get('seeds')})"
            if setting.get("replicated")
            else UNKNOWN
        )
        cells.append(
            [
                *(f"{row['rank'] or UNKNOWN}{' =' if row['tied'] else ''}", row["trial_id"], row["state"]),
                scored(board, row["objective"]),
                Cell(with_interval(row["gain"], row["gain_interval"]), bar(row["gain"], row["gain_interval"], reach)),
                *([seeds] if replicated else []),
                _behind(row),
                *([row.get("guard_rail") or UNKNOWN] if railed else []),
                *(number(row["params"].get(name)) for name in names),
                str(row["findings"]),
                _seconds(row),
            ]
        )
    return Table(caption, header, cells, words=3, folded=folded)


def bar(value: float | None, interval: list[float] | None, reach: tuple[float, float]) -> Bar | None:
    """Scales an interval to `reach`, the column's range; None without an interval."""
    low, high = reach
    if value is None or interval is None or high <= low:
        return None
    places = [min(1.0, max(0.0, (x - low) / (high - low))) for x in (interval[0], value, interval[1], 0.0)]
    return Bar(*places)


def reach_of(intervals: Iterable[Sequence[float] | None]) -> tuple[float, float]:
    """The range that holds all known intervals and 0."""
    ends = [end for interval in intervals if interval for end in interval]
    return (min(0.0, *ends), max(0.0, *ends)) if ends else (0.0, 0.0)


def _behind(row: Row) -> str:
    figures = row.get("setting") or row
    if row["rank"] is None:
        return UNKNOWN
    return UNKNOWN if row["rank"] == 1 else with_interval(figures["behind"], figures["behind_interval"])


def _seconds(row: Row) -> str:
    seconds = (row["cost"] or {}).get("device_seconds")
    return UNKNOWN if seconds is None else f"{seconds:.0f}"
