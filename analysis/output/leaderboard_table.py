"""The leaderboard in a terminal: whole at any width; plain text where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.output.formats import UNKNOWN, measure_of, nats, negated, number, percent, scored, with_interval
from analysis.output.leaderboard import UNANSWERED, Figures, Leaderboard, LeaderboardRow
from analysis.output.leaderboard_notes import VS_BEST, legend, lines_below
from analysis.output.terminal_plots import interval_bar

GAP = 2  # blanks between columns
BAR_CELLS = 24
MARKS = {"fail": " !", "undecided": " ?"}


@dataclass(frozen=True)
class Column:
    """A column: its header (of one line or two), and a cell for the base model and each row."""

    header: str
    cells: list[str]

    @property
    def width(self) -> int:
        """Its width in terminal cells."""
        return max(cell_len(text) for text in [*self.header.splitlines(), *self.cells])


def print_board(board: Leaderboard, console: Console | None = None) -> None:
    """Prints a leaderboard: base model first, then the trials by rank; then notes and the verdict.

    Columns that don't fit into the width go into a further table below, with rank and trial repeated; a cell wider than
    the terminal is folded. Colors, and gains as bars, only in a terminal.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    bars = console.is_terminal and console.encoding.startswith("utf")
    for title, rows, columns in _sections(board, bars):
        key, styles = _key_columns(rows), ["dim", *(_style(row) for row in rows)]
        for block in _fitting(key, columns, console.width):
            _print_table(console, title, [*key, *block], styles)
            title = f"{title.removesuffix(' (continued)')} (continued)"
    if board["winner"]:
        console.print(Text(legend(board), style="dim"))
    for line in lines_below(board):
        console.print(Text(line))
    for note in [*board["notes"], *_row_notes(board)]:
        console.print(Text(f"note: {note}"))
    console.print(Text(board["verdict"], style="bold"))


def _sections(board: Leaderboard, bars: bool = False) -> Iterator[tuple[str, list[LeaderboardRow], list[Column]]]:
    """Title, rows and columns of each table."""
    rows, baseline = board["rows"], board["baseline"]
    outcome = [
        Column("step", ["0", *(_whole(row["step"]) for row in rows)]),
        Column(
            measure_of(board).metric,
            [scored(board, baseline["objective"]), *(scored(board, row["objective"]) for row in rows)],
        ),
        Column("gain", [UNKNOWN, *(with_interval(row["gain"], row["gain_interval"]) for row in rows)]),
        *(_gain_bars(rows) if bars else ()),
        *_over_seeds(board),
        *_posteriors(board),
        Column(VS_BEST, [UNKNOWN, *(_behind(row) for row in rows)]),
        *_guard_rails(rows),
    ]
    yield f"Leaderboard of {board['name']}", rows, outcome
    names = sorted({name for row in rows for name in row["params"]}, key=lambda name: (name != "peak_lr", name))
    settings = [Column(name, [UNKNOWN, *(number(row["params"].get(name)) for row in rows)]) for name in names]
    settings.append(Column("findings", [UNKNOWN, *(str(row["findings"]) for row in rows)]))
    seconds = [row["cost"].get("device_seconds") for row in rows]
    settings.append(Column("seconds", [UNKNOWN, *(UNKNOWN if s is None else f"{s:.0f}" for s in seconds)]))
    yield "Settings, findings, device seconds", rows, settings
    ranked = [row for row in rows if row["rank"]]  # only these have scores by area
    everyone = [baseline["areas"], *(row["areas"] for row in ranked)]
    losses, gains = [], []
    for area in sorted(board["weights"]):
        found = [areas.get(area, {}) for areas in everyone]
        losses.append(Column(f"{area}\nnll   EM", [_loss_and_match(summary) for summary in found]))
        marks = [MARKS.get(str((row.get("guard_rails") or {}).get(area, {}).get("outcome")), "") for row in ranked]
        texts = [f"{_area_gain(summary)}{mark}" for summary, mark in zip(found[1:], marks, strict=True)]
        gains.append(Column(area, [UNKNOWN, *texts]))
    yield "Areas", ranked, losses
    if ranked:
        yield "Gain over the base model by area", ranked, gains


def _key_columns(rows: list[LeaderboardRow]) -> list[Column]:
    places = [f"{row['rank'] or _unranked(row)}{'=' if row['tied'] else ''}" for row in rows]
    return [Column("rank", ["base", *places]), Column("trial", ["(untouched)", *(row["trial_id"] for row in rows)])]


def _fitting(key: list[Column], columns: list[Column], width: int) -> Iterator[list[Column]]:
    """Splits the columns into runs that fit next to the key columns; a column too wide for any line is its own run."""
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
    for line, style in enumerate(styles):
        table.add_row(*(Text(column.cells[line], style=style) for column in columns))
    console.print(table)
    console.print()


def _row_notes(board: Leaderboard) -> Iterator[str]:
    for row in board["rows"]:
        for checkpoint in row["checkpoints"]:
            # Those without answers are many, by the config.
            if checkpoint.get("defect") not in (None, UNANSWERED):
                yield f"{row['trial_id']} step {checkpoint['step']} has no rank: {checkpoint['defect']}"
        if error := (row["error"] or "").strip():
            yield f"{row['trial_id']} {row['state']}: {error.splitlines()[-1]}"


def _style(row: LeaderboardRow) -> str:
    if row["rank"] is None:
        return "dim"
    return "bold green" if row["rank"] == 1 else "yellow" if row["tied"] else ""


def _unranked(row: LeaderboardRow) -> str:
    return "unscored" if row["state"] == "complete" else str(row["state"])


def _gain_bars(rows: list[LeaderboardRow]) -> Iterator[Column]:
    # One scale for all rows, which holds 0.
    ends = [end for row in rows if row["gain_interval"] for end in row["gain_interval"]]
    reach = (min(0.0, *ends), max(0.0, *ends)) if ends else (0.0, 0.0)
    if reach[0] < reach[1]:
        cells = [
            interval_bar(interval[0], row["gain"], interval[1], reach, BAR_CELLS)
            if (interval := row["gain_interval"]) and row["gain"] is not None
            else ""
            for row in rows
        ]
        yield Column("0 to the most" if reach[0] == 0 else "least to most", ["", *cells])


def _over_seeds(board: Leaderboard) -> Iterator[Column]:
    settings = [row.get("setting") for row in board["rows"]]
    if any(setting and setting["replicated"] for setting in settings):
        means = [scored(board, s["objective"]) if s and s["replicated"] else UNKNOWN for s in settings]
        yield Column("seeds", [UNKNOWN, *(_whole(setting and setting["seeds"]) for setting in settings)])
        yield Column(f"mean {measure_of(board).metric}", [UNKNOWN, *means])


def _posteriors(board: Leaderboard) -> Iterator[Column]:
    settings = [row.get("setting") for row in board["rows"]]
    if any(setting and setting.get("posterior") is not None for setting in settings):
        cells = [
            f"{scored(board, s.get('posterior'))} ± {nats(s.get('posterior_sd'))}" if s else UNKNOWN for s in settings
        ]
        yield Column(f"expected {measure_of(board).metric}", [UNKNOWN, *cells])


def _guard_rails(rows: list[LeaderboardRow]) -> Iterator[Column]:
    if not any(row.get("guard_rail") for row in rows):
        return
    cells = []
    for row in rows:
        outcomes = [rail["outcome"] for rail in (row.get("guard_rails") or {}).values()]
        overall = row.get("guard_rail") or UNKNOWN
        some = overall in ("fail", "undecided")
        cells.append(f"{overall} {outcomes.count(overall)} of {len(outcomes)}" if some else overall)
    yield Column("guard-rails", [UNKNOWN, *cells])


def _behind(row: LeaderboardRow) -> str:
    # Boards of the first versions have no settings, only the checkpoint's own difference.
    figures = row.get("setting") or row
    return nats(figures["behind"]) if row["rank"] == 1 else with_interval(figures["behind"], figures["behind_interval"])


def _area_gain(area: Figures) -> str:
    delta = area.get("delta")
    return UNKNOWN if delta is None else with_interval(-delta, negated(area.get("delta_interval")))


def _loss_and_match(summary: Figures) -> str:
    return f"{nats(summary.get('nll'))} {percent(summary.get('exact_match')):>5}"


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
