"""The leaderboard: base model and settings, the peak LR first, a column an area and scorer; statistics folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from analysis.output.board_figures import STATES, answer_metrics, mean_of, metric_label
from analysis.output.formats import (
    PARAM_LABELS,
    UNKNOWN,
    measure_of,
    nats,
    negated,
    ordered,
    rate,
    scored,
    setting_value,
    setting_words,
    share,
    with_interval,
)
from analysis.output.leaderboard_notes import VS_BEST, legend, lines_below
from analysis.output.leaderboard_table import setting_of
from analysis.report.elements.blocks import Bar, Block, Cell, Points, Section, Table
from analysis.report.elements.material import Material, Row

OPEN_ROWS = 20


def section(material: Material) -> Section:
    board, rows = material.board, material.board["rows"]
    blocks: list[Block] = [_table(material, rows[:OPEN_ROWS], f"Leaderboard of {board['name']}", None)]
    if len(rows) > OPEN_ROWS:
        folded = f"The other {len(rows) - OPEN_ROWS} settings"
        blocks.append(_table(material, rows[OPEN_ROWS:], "Leaderboard, continued", folded))
    if board["winner"]:
        lines = [*legend(board), *lines_below(board)]
        blocks.append(Points([("", line) for line in lines], folded="Statistics explained"))
    return Section("leaderboard", "Leaderboard", blocks)


def _table(material: Material, rows: list[Row], caption: str, folded: str | None) -> Table:
    board, base = material.board, material.board["baseline"]
    every: list[Row | None] = [None, *rows]  # None: the base model
    names, shared = _varied(board["rows"])
    metrics = [name for name in answer_metrics(board) if name != measure_of(board).metric]
    replicated = any(row["setting"] and row["setting"]["replicated"] for row in board["rows"])
    railed = any(row.get("guard_rail") for row in board["rows"])
    reach = reach_of(_moved(board, row["gain"], row["gain_interval"])[1] for row in board["rows"])
    areas = sorted(board["weights"])
    header = ["#", "peak LR", *(PARAM_LABELS.get(name, name) for name in names), measure_of(board).label]
    header += ["Δ vs base (95 % CI)", *(["over seeds"] if replicated else []), f"{VS_BEST} (95 % CI)"]
    header += [*map(metric_label, metrics), *areas, *(["regression check"] if railed else [])]
    header += ["trial", "status", "seconds"]
    cells: list[list[Cell | str]] = []
    for row in every:
        figures = (base.get("areas") or {}) if row is None else row["areas"]
        cells.append(
            [
                *(_place(row), "base" if row is None else rate(row["params"].get("peak_lr"))),
                *("" if row is None else setting_value(name, row["params"].get(name)) for name in names),
                scored(board, base["objective"] if row is None else row["objective"]),
                _vs_base(board, row, reach),
                *([_seeds(board, row)] if replicated else []),
                _behind(row),
                *(share(mean_of(board, figures or {}, name)) for name in metrics),
                *(_area(board, (figures or {}).get(area)) for area in areas),
                *([(row and row.get("guard_rail")) or UNKNOWN] if railed else []),
                *("" if row is None else row["trial_id"], "" if row is None else STATES[row["state"]]),
                "" if row is None else _seconds(row),
            ]
        )
    return Table(f"{caption}{shared}", header, cells, words=1, folded=folded, sortable=True)


def _varied(rows: list[Row]) -> tuple[list[str], str]:
    """The hyper-parameters besides the peak LR that differ between trials, and the others in words."""
    names = [name for name in ordered({name: None for row in rows for name in row["params"]}) if name != "peak_lr"]
    varied = [name for name in names if len({str(row["params"].get(name)) for row in rows}) > 1]
    same = {name: rows[0]["params"][name] for name in names if name not in varied}
    return varied, f" (all: {setting_words(same)})" if same else ""


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


def _place(row: Row | None) -> str:
    return "–" if row is None else f"{row['rank'] or UNKNOWN}{'=' if row['tied'] else ''}"


def _moved(board: Any, gain: float | None, interval: list[float] | None) -> tuple[float | None, list[float] | None]:
    """A gain as the metric moves: a loss falls, a share rises."""
    if measure_of(board).higher_is_better:
        return gain, interval
    return (None if gain is None else -gain), negated(interval)


def _vs_base(board: Any, row: Row | None, reach: tuple[float, float]) -> Cell | str:
    if row is None:
        return ""
    value, interval = _moved(board, row["gain"], row["gain_interval"])
    return Cell(with_interval(value, interval), bar(value, interval, reach))


def _seeds(board: Any, row: Row | None) -> str:
    setting = setting_of(row) if row else {}
    return f"{scored(board, setting['objective'])} ({setting['seeds']})" if setting.get("replicated") else UNKNOWN


def _behind(row: Row | None) -> str:
    if row is None or row["rank"] in (None, 1):
        return ""
    value, interval = setting_of(row)["behind"], setting_of(row)["behind_interval"]
    return with_interval(value, interval) if interval else nats(value)


def _area(board: Any, figures: dict[str, Any] | None) -> str:
    value = (figures or {}).get(measure_of(board).metric)
    return share(value) if measure_of(board).higher_is_better else nats(value)


def _seconds(row: Row) -> str:
    seconds = (row["cost"] or {}).get("device_seconds")
    return UNKNOWN if seconds is None else f"{seconds:.0f}"
