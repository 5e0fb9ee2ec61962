"""The leaderboard in a terminal: never cut off, whatever the width; plain text where the output is no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]

GAP = 2  # blanks between columns
UNKNOWN = "-"
SHOWN_TIES = 5
LEGEND = (
    "nll: weighted mean over areas of the items' mean loss, nats a token (lowest wins). gain: base model minus trial.",
    "EM: exact match. [low, high]: 95 % interval ({scope}). =: tied with the first. -: not measured.",
    "The winner's gain is {winner}.",
)


@dataclass(frozen=True)
class Column:
    """A column: its header (of one line or two), and a cell for the base model and each row."""

    header: str
    cells: list[str]

    @property
    def width(self) -> int:
        """Terminal cells that it needs."""
        return max(cell_len(text) for text in [*self.header.splitlines(), *self.cells])


def print_board(board: dict[str, Any], console: Console | None = None) -> None:
    """Prints a leaderboard: base model first, then the trials by rank; then notes and the verdict.

    Columns that don't fit beside each other go into a further table below, each with rank and trial repeated; a cell
    wider than the terminal is folded. Colours only in a terminal.

    Args:
        board: What `analysis.rank.leaderboard` returns.
        console: Where to print; standard output by default.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    for title, rows, columns in _sections(board):
        key, styles = _key_columns(rows), ["dim", *(_style(row) for row in rows)]
        for block in _fitting(key, columns, console.width):
            _print_table(console, title, [*key, *block], styles)
            title = f"{title.removesuffix(' (continued)')} (continued)"
    if board["winner"]:
        scope = board["intervals"]["scope"]
        legend = " ".join(LEGEND).format(scope=scope, winner=board["intervals"]["winner"])
        console.print(Text(legend, style="dim"), soft_wrap=False)
    for note in [*board["notes"], *_row_notes(board)]:
        console.print(Text(f"note: {note}"))
    console.print(Text(board["verdict"], style="bold"))


def verdict(board: dict[str, Any]) -> str:
    """The sweep's outcome in a sentence: the winner and its gain, a tie, or why there is neither."""
    states = Counter(row["state"] for row in board["rows"])
    if not board["winner"]:
        counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no trial has ended"
        reason = "No complete trial has held-out scores" if states["complete"] else "No complete trial"
        return f"{reason}: nothing to rank ({counted})."
    best, others = board["rows"][0], [row["trial_id"] for row in board["rows"] if row["tied"]]
    if len(others) > SHOWN_TIES:
        others[SHOWN_TIES:] = [f"{len(others) - SHOWN_TIES} more"]
    scope = board["intervals"]["scope"]
    name, interval = f"{best['trial_id']} at step {best['step']}", best["gain_interval"]
    gain = f"gain over the base model {_with_interval(best['gain'], interval)} nats a token"
    if best["gain"] is None:
        gain = "the base model was not scored"
    elif interval is not None and interval[0] <= 0:
        gain += ", not told apart from no gain" if interval[1] >= 0 else ", worse than the base model"
    if others:
        return f"Tie: {name} is lowest ({gain}) but not told apart from {', '.join(others)} ({scope})."
    return f"Winner: {name} ({gain}; {scope})."


def _sections(board: dict[str, Any]) -> Iterator[tuple[str, list[Row], list[Column]]]:
    """Title, rows and columns of each table; trials without a rank have nothing to show in those on areas."""
    rows, baseline = board["rows"], board["baseline"]
    outcome = [
        Column("step", ["0", *(_whole(row["step"]) for row in rows)]),
        Column("nll", [_nats(baseline["objective"]), *(_nats(row["objective"]) for row in rows)]),
        Column("gain", [UNKNOWN, *(_with_interval(row["gain"], row["gain_interval"]) for row in rows)]),
        Column("behind the first", [UNKNOWN, *(_behind(row) for row in rows)]),
    ]
    yield f"Leaderboard of {board['name']}", rows, outcome
    names = sorted({name for row in rows for name in row["params"]}, key=lambda name: (name != "peak_lr", name))
    settings = [Column(name, [UNKNOWN, *(_number(row["params"].get(name)) for row in rows)]) for name in names]
    settings.append(Column("findings", [UNKNOWN, *(str(row["findings"]) for row in rows)]))
    seconds = [row["cost"].get("device_seconds") for row in rows]
    settings.append(Column("seconds", [UNKNOWN, *(UNKNOWN if s is None else f"{s:.0f}" for s in seconds)]))
    yield "Settings, findings, device seconds", rows, settings
    ranked = [row for row in rows if row["rank"]]
    everyone = [baseline["areas"], *(row["areas"] for row in ranked)]
    losses, gains = [], []
    for area in sorted(board["weights"]):
        found = [areas.get(area, {}) for areas in everyone]
        losses.append(Column(f"{area}\nnll   EM", [_loss_and_match(summary) for summary in found]))
        gains.append(Column(area, [UNKNOWN, *(_area_gain(summary) for summary in found[1:])]))
    yield "Areas", ranked, losses
    if ranked:
        yield "Gain over the base model by area", ranked, gains


def _key_columns(rows: list[Row]) -> list[Column]:
    places = [f"{row['rank'] or _unranked(row)}{'=' if row['tied'] else ''}" for row in rows]
    return [Column("rank", ["base", *places]), Column("trial", ["(untouched)", *(row["trial_id"] for row in rows)])]


def _fitting(key: list[Column], columns: list[Column], width: int) -> Iterator[list[Column]]:
    """Cuts the columns into runs that fit beside the key columns; a column too wide for any line stands alone."""
    room = width - sum(column.width + GAP for column in key)
    block: list[Column] = []
    for column in columns:
        if block and sum(c.width + GAP for c in [*block, column]) - GAP > room:
            yield block
            block = []
        block.append(column)
    yield block


def _print_table(console: Console, title: str, columns: list[Column], styles: list[str]) -> None:
    console.print(Text(title, style="bold"))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        justify = "left" if index < 2 else "right"
        table.add_column(Text(column.header), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for number, style in enumerate(styles):
        table.add_row(*(Text(column.cells[number], style=style) for column in columns))
    console.print(table)
    console.print()


def _row_notes(board: dict[str, Any]) -> Iterator[str]:
    for row in board["rows"]:
        for checkpoint in row["checkpoints"]:
            if checkpoint.get("defect"):
                yield f"{row['trial_id']} step {checkpoint['step']} has no rank: {checkpoint['defect']}"
        if (row["error"] or "").strip():
            yield f"{row['trial_id']} {row['state']}: {row['error'].strip().splitlines()[-1]}"


def _style(row: Row) -> str:
    if row["rank"] is None:
        return "dim"
    return "bold green" if row["rank"] == 1 else "yellow" if row["tied"] else ""


def _unranked(row: Row) -> str:
    return "unscored" if row["state"] == "complete" else str(row["state"])


def _nats(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else f"{value:.3f} [unknown]"


def _behind(row: Row) -> str:
    return _nats(row["behind"]) if row["rank"] == 1 else _with_interval(row["behind"], row["behind_interval"])


def _area_gain(area: dict[str, Any]) -> str:
    delta, interval = area.get("delta"), area.get("delta_interval")
    if delta is None:
        return UNKNOWN
    return _with_interval(-delta, [-interval[1], -interval[0]] if interval else None)


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"


def _loss_and_match(summary: dict[str, Any]) -> str:
    match = summary.get("exact_match")
    share = UNKNOWN if match is None else f"{100 * match:.0f} %"
    return f"{_nats(summary.get('nll'))} {share:>5}"


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
