"""The leaderboard in a terminal: whole at any width; plain text where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from analysis.output.board_figures import answer_metrics, mean_of, metric_label
from analysis.output.formats import (
    PARAM_LABELS,
    UNKNOWN,
    labeled,
    measure_of,
    nats,
    negated,
    ordered,
    percent,
    scored,
    setting_value,
    share,
    with_interval,
)
from analysis.output.leaderboard import UNANSWERED, Figures, Leaderboard, LeaderboardRow
from analysis.output.leaderboard_notes import VS_BEST, legend, lines_below
from analysis.output.terminal_plots import interval_bar

GAP = 2  # blanks between columns
BAR_CELLS = 24
# For a terminal whose encoding has no more than ASCII.
PLAIN = str.maketrans({"→": "->", "−": "-", "✔": "*", "⚠": "!", "Δ": "diff", "·": ",", "–": "-", "…": "...", "±": "+-"})
MARKS = {"fail": " !", "undecided": " ?"}


@dataclass(frozen=True)
class Column:
    """A column: its header (of one line or two), and a cell for the base model and each row."""

    header: str
    cells: list[str]
    words: bool = False  # words stand left, figures right

    @property
    def width(self) -> int:
        """Its width in terminal cells."""
        return max(cell_len(text) for text in [*self.header.splitlines(), *self.cells])


def print_board(board: Leaderboard, console: Console | None = None) -> None:
    """Prints the whole leaderboard: base model first, then the trials by rank; then statistics and notes.

    Columns that don't fit into the width go into a further table below, with rank and trial repeated; a cell wider than
    the terminal is folded. Colors, and gains as bars, only in a terminal.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    bars = console.is_terminal and console.encoding.startswith("utf")
    for title, rows, columns in _sections(board, bars):
        key, styles = _key_columns(rows), ["dim", *(row_style(row) for row in rows)]
        for block in _fitting(key, columns, console.width):
            print_table(console, title, [*key, *block], styles)
            console.print()
            title = f"{title.removesuffix(' (continued)')} (continued)"
    if board["winner"]:
        for line in legend(board):
            console.print(Text(line, style="dim"))
    for line in lines_below(board):
        console.print(Text(line))
    for note in [*board["notes"], *row_notes(board)]:
        console.print(Text(f"note: {note}"))


def _sections(board: Leaderboard, bars: bool = False) -> Iterator[tuple[str, list[LeaderboardRow], list[Column]]]:
    """Title, rows and columns of each table."""
    rows, baseline = board["rows"], board["baseline"]
    outcome = [
        Column("step", ["0", *(_whole(row["step"]) for row in rows)]),
        Column(
            measure_of(board).label,
            [scored(board, baseline["objective"]), *(scored(board, row["objective"]) for row in rows)],
        ),
        Column("Δ vs base", [UNKNOWN, *(_vs_base(board, row) for row in rows)]),
        *(_gain_bars(rows) if bars else ()),
        *_over_seeds(board),
        *_posteriors(board),
        Column(VS_BEST, [UNKNOWN, *(_behind(row) for row in rows)]),
        *_guard_rails(rows),
    ]
    yield f"Leaderboard of {board['name']}", rows, outcome
    names = ordered({name: None for row in rows for name in row["params"]})
    settings = [
        Column(PARAM_LABELS.get(name, name), [UNKNOWN, *(setting_value(name, row["params"].get(name)) for row in rows)])
        for name in names
    ]
    settings.append(Column("findings", [UNKNOWN, *(str(row["findings"]) for row in rows)]))
    seconds = [row["cost"].get("device_seconds") for row in rows]
    settings.append(Column("seconds", [UNKNOWN, *(UNKNOWN if s is None else f"{s:.0f}" for s in seconds)]))
    yield "Settings, findings, device seconds", rows, settings
    ranked = [row for row in rows if row["rank"]]  # only these have scores by area
    everyone = [baseline["areas"], *(row["areas"] for row in ranked)]
    losses, gains = [], []
    for area in sorted(board["weights"]):
        found = [areas.get(area, {}) for areas in everyone]
        losses.append(Column(f"{area}\nloss   EM", [_loss_and_match(summary) for summary in found]))
        marks = [MARKS.get(str((row.get("guard_rails") or {}).get(area, {}).get("outcome")), "") for row in ranked]
        texts = [f"{_area_gain(board, summary)}{mark}" for summary, mark in zip(found[1:], marks, strict=True)]
        gains.append(Column(area, [UNKNOWN, *texts]))
    yield "Areas", ranked, losses
    if ranked:
        yield f"Δ vs base by area, {measure_of(board).label}", ranked, gains
    own = _own_scorers(board, everyone)
    if own:
        yield "Answers, mean over the areas that have the scorer", ranked, own


def _key_columns(rows: list[LeaderboardRow]) -> list[Column]:
    places = [f"{row['rank'] or _unranked(row)}{'=' if row['tied'] else ''}" for row in rows]
    named = ["(untouched)", *(labeled(row["trial_id"], row["params"]) for row in rows)]
    return [Column("rank", ["base", *places], words=True), Column("trial", named, words=True)]


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


CONTROL = dict.fromkeys({*range(32), *range(127, 160)} - set(map(ord, "\t\n")), "?")


def encodable(text: str, console: Console) -> str:
    """The text as it is, or its signs as ASCII where the console's encoding lacks them; `?` for control characters."""
    text = text.translate(CONTROL)  # names and ids come from files, and could move a terminal's cursor
    return text if console.encoding.lower().startswith("utf") else text.translate(PLAIN)


def print_table(console: Console, title: str | None, columns: list[Column], styles: list[str], indent: int = 0) -> None:
    """Prints columns side by side.

    Args:
        console: Where to print.
        title: Stands above; None for none.
        columns: From the left.
        styles: Of each line of cells.
        indent: Blanks before the table.
    """
    if title:
        console.print(Text(encodable(title, console), style="bold"))
    console.print(Padding(table_of(console, columns, styles), (0, 0, 0, indent)))


def table_of(console: Console, columns: list[Column], styles: list[str]) -> Table:
    """Columns side by side, a style for each line of cells."""
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for column in columns:
        justify = "left" if column.words else "right"
        table.add_column(Text(encodable(column.header, console)), justify=justify, overflow="fold")  # type: ignore[arg-type]
    for line, style in enumerate(styles):
        table.add_row(*(Text(encodable(column.cells[line], console), style=style) for column in columns))
    return table


def row_notes(board: Leaderboard) -> Iterator[str]:
    """Why trials failed, and why checkpoints can't be ranked."""
    for row in board["rows"]:
        name = labeled(row["trial_id"], row["params"])
        for checkpoint in row["checkpoints"]:
            # Those without answers are many, by the config.
            if checkpoint.get("defect") not in (None, UNANSWERED):
                yield f"{name} step {checkpoint['step']} has no rank: {checkpoint['defect']}"
        if error := (row["error"] or "").strip():
            yield f"{name} {row['state']}: {error.splitlines()[-1]}"


def row_style(row: LeaderboardRow) -> str:
    """The style of a setting's line: the best, those tied with it, those without a rank."""
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
            interval_bar(-interval[1], -row["gain"], -interval[0], (-reach[1], -reach[0]), BAR_CELLS)
            if (interval := row["gain_interval"]) and row["gain"] is not None
            else ""
            for row in rows
        ]
        yield Column(f"{-reach[1]:.1f} … {-reach[0]:.1f}".replace("-", "−"), ["", *cells])


def _over_seeds(board: Leaderboard) -> Iterator[Column]:
    settings = [row.get("setting") for row in board["rows"]]
    if any(setting and setting["replicated"] for setting in settings):
        means = [scored(board, s["objective"]) if s and s["replicated"] else UNKNOWN for s in settings]
        yield Column("seeds", [UNKNOWN, *(_whole(setting and setting["seeds"]) for setting in settings)])
        yield Column(f"mean {measure_of(board).label}", [UNKNOWN, *means])


def _posteriors(board: Leaderboard) -> Iterator[Column]:
    settings = [row.get("setting") for row in board["rows"]]
    if any(setting and setting.get("posterior") is not None for setting in settings):
        cells = [
            f"{scored(board, s.get('posterior'))} ± {nats(s.get('posterior_sd'))}" if s else UNKNOWN for s in settings
        ]
        yield Column(f"expected {measure_of(board).label}", [UNKNOWN, *cells])


def _guard_rails(rows: list[LeaderboardRow]) -> Iterator[Column]:
    if not any(row.get("guard_rail") for row in rows):
        return
    cells = []
    for row in rows:
        outcomes = [rail["outcome"] for rail in (row.get("guard_rails") or {}).values()]
        overall = row.get("guard_rail") or UNKNOWN
        some = overall in ("fail", "undecided")
        cells.append(f"{overall} {outcomes.count(overall)} of {len(outcomes)}" if some else overall)
    yield Column("regression check", [UNKNOWN, *cells])


def setting_of(row: LeaderboardRow) -> Figures:
    """The figures of a row's setting; boards of the first versions have only the checkpoint's own difference."""
    return dict(row.get("setting") or row)


def _behind(row: LeaderboardRow) -> str:
    figures = setting_of(row)
    return nats(figures["behind"]) if row["rank"] == 1 else with_interval(figures["behind"], figures["behind_interval"])


def _vs_base(board: Leaderboard, row: LeaderboardRow) -> str:
    """The metric minus the base model's: below 0 a loss is better, above 0 a share."""
    gain, interval = row["gain"], row["gain_interval"]
    if measure_of(board).higher_is_better:
        return with_interval(gain, interval)
    return with_interval(None if gain is None else -gain, negated(interval))


def _area_gain(board: Leaderboard, area: Figures) -> str:
    delta, interval = area.get("delta"), area.get("delta_interval")
    if not measure_of(board).higher_is_better:
        return with_interval(delta, interval)
    return with_interval(None if delta is None else -delta, negated(interval))


def _own_scorers(board: Leaderboard, everyone: list[dict[str, Figures]]) -> list[Column]:
    return [
        Column(metric_label(name), [share(mean_of(board, areas, name)) for areas in everyone])
        for name in answer_metrics(board)
    ]


def _loss_and_match(summary: Figures) -> str:
    return f"{nats(summary.get('nll'))} {percent(summary.get('exact_match')):>5}"


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
