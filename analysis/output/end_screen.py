"""What a sweep ends with in a terminal: the outcome first, then a leaderboard of 80 columns, warnings and commands."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from analysis.output.board_figures import STATES, answer_metrics, counted, mean_of, metric_label
from analysis.output.formats import (
    PARAM_LABELS,
    UNKNOWN,
    labeled,
    measure_of,
    ordered,
    rate,
    scored,
    setting_value,
    share,
    signed,
)
from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.output.leaderboard_notes import VS_BEST
from analysis.output.leaderboard_table import GAP, Column, encodable, print_table, row_notes, row_style, setting_of
from analysis.output.verdict import summary

LABEL_CELLS = 21
WIDTH = 80  # of sentences, on wider terminals too
SHOWN_ROWS, SHOWN_WARNINGS, SHOWN_ENDED = 10, 3, 4


@dataclass(frozen=True)
class Ranked:
    """A column of the leaderboard; the columns with the highest `dispensable` are left out first, 0 never."""

    column: Column
    dispensable: int = 0
    word: str = ""  # what it shows, for the note on columns that are left out


def print_end(
    board: Leaderboard,
    console: Console | None = None,
    place: str | None = None,
    report: str | None = None,
    state: str | None = None,
) -> None:
    """Prints the outcome of a sweep.

    Args:
        board: Its leaderboard.
        console: Where to print; None for standard output.
        place: Its folder or URL, for the commands; None for no commands.
        report: Where its report lies; None where there is none.
        state: How the sweep ended, where it has just ended; `complete` gets a check mark, others are named.
    """
    console = console or Console(highlight=False, markup=False, emoji=False)
    write = Printer(console)
    write.line(heading(board, state), "bold")
    write.blank()
    for line in summary(board):
        mark = "⚠ " if line.alarm else ""
        write.point(line.label, f"{mark}{line.text}", "yellow" if line.alarm else "")
    ranked = [row for row in board["rows"] if row["rank"]]
    if ranked:
        write.blank()
        for note in _print_leaderboard(board, ranked, console):
            write.line(note, "dim", indent=2)
    warnings = [one["reason"] for one in (board.get("advice") or [])[:SHOWN_WARNINGS]]
    faults = [*row_notes(board)]
    if len(faults) > SHOWN_ENDED:
        faults[SHOWN_ENDED:] = [f"{len(faults) - SHOWN_ENDED} more such faults (--full)"]
    if warnings or faults:
        write.blank()
    for text in [*faults, *warnings]:
        write.line(f"⚠ {text}", "yellow", indent=2, hang=2)
    if place and ranked:
        write.blank()
        for label, command in commands(place, report):
            console.print(Text(encodable(f"  {label:<9}{command}", console)), soft_wrap=True)


def heading(board: Leaderboard, state: str | None = None) -> str:
    """The sweep in a line: name, time, trials, model."""
    about = board.get("about")
    mark = "" if state is None else "✔ " if state == "complete" else f"⚠ {state.replace('_', ' ')}: "
    parts = [board["name"], counted(board)]
    if about:
        seconds = about["wall_seconds"]
        if seconds:
            parts.insert(1, duration(seconds))
        method = f"LoRA r={about['lora_r']}" if about["lora_r"] else about["method"]
        parts.append(", ".join(filter(None, (about["model"], "full fine-tuning" if method == "full" else method))))
    return mark + " · ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 min`, `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def commands(place: str, report: str | None = None) -> Iterator[tuple[str, str]]:
    """Where the report lies, and what to do next, as commands that can be pasted."""
    folder = shlex.quote(place)
    yield "Report", report or f"python -m analysis.report {folder}"
    yield "Export", f"python -m analysis.export {folder} --to best"
    yield "Next", f"python -m analysis.suggest {folder} --to next.yaml"
    yield "Details", f"python -m analysis.rank {folder} --full"


class Printer:
    """Prints wrapped lines on a console, in ASCII where its encoding has no more."""

    def __init__(self, console: Console) -> None:
        self.console, self.width = console, min(console.width, WIDTH)

    def blank(self) -> None:
        self.console.print()

    def line(self, text: str, style: str = "", indent: int = 0, hang: int = 0) -> None:
        text = encodable(text, self.console)
        margins = {"initial_indent": " " * indent, "subsequent_indent": " " * (indent + hang)}
        for part in textwrap.wrap(text, self.width, break_on_hyphens=False, **margins):  # type: ignore[arg-type]
            self.console.print(Text(part, style=style), soft_wrap=True)

    def point(self, label: str, text: str, style: str = "") -> None:
        """A labeled line; on a narrow terminal the text stands below its label."""
        if self.width < 3 * LABEL_CELLS:
            self.line(label, "bold", indent=2)
            self.line(text, style, indent=4)
        else:
            self.line(f"{label:<{LABEL_CELLS}}{text}", style, indent=2, hang=LABEL_CELLS)


def _print_leaderboard(board: Leaderboard, ranked: list[LeaderboardRow], console: Console) -> Iterator[str]:
    """Prints the table, and yields what it leaves out."""
    rows = ranked[:SHOWN_ROWS]
    columns, left = fitting(table_columns(board, rows), console.width - 2)
    print_table(console, None, columns, ["dim", *(row_style(row) for row in rows)], indent=2)
    more = [f"{len(ranked) - len(rows)} more settings"] if len(ranked) > len(rows) else []
    hidden = [*more, *left]
    if hidden:
        yield f"Not shown: {', '.join(hidden)} (--full)."
    for state in ("diverged", "pruned"):
        ended = [labeled(row["trial_id"], row["params"]) for row in board["rows"] if row["state"] == state]
        if ended:
            rest = f" and {len(ended) - SHOWN_ENDED} more" if len(ended) > SHOWN_ENDED else ""
            yield f"{STATES[state].capitalize()}: {', '.join(ended[:SHOWN_ENDED])}{rest}."


def table_columns(board: Leaderboard, rows: list[LeaderboardRow]) -> list[Ranked]:
    """The columns of the short leaderboard, the base model in the first line."""
    base, measure = board["baseline"], measure_of(board)
    base_areas = base.get("areas") or {}
    own, expected = [scored(board, row["objective"]) for row in rows], _expected(board, rows)
    params = [name for name in ordered(rows[0]["params"]) if name != "peak_lr"]
    varied = [name for name in params if len({str(row["params"].get(name)) for row in rows}) > 1]
    gaps = [_gap(row) for row in rows]
    label = "loss" if not measure.higher_is_better else measure.label
    expected_words = f"expected {label}, which orders the rows"
    found = [
        Ranked(Column("#", ["–", *(f"{row['rank']}{'=' if row['tied'] else ''}" for row in rows)], words=True)),
        Ranked(Column("peak LR", ["base", *(rate(row["params"].get("peak_lr")) for row in rows)])),
    ]
    for place, name in enumerate(varied):
        cells = [setting_value(name, row["params"].get(name)) for row in rows]
        found.append(_spare(PARAM_LABELS.get(name, name), ["", *cells], 40 + place))
    found += [
        Ranked(Column(label, [scored(board, base["objective"]), *own])),
        *([_spare(f"expected\n{label}", ["", *expected], 20, expected_words)] if expected else []),
        Ranked(Column(_two_lines(VS_BEST), ["", *(short for short, _ in gaps)])),
    ]
    if any(interval for _, interval in gaps):
        found.append(_spare("95 % CI", ["", *(interval for _, interval in gaps)], 30))
    for place, area in enumerate(sorted(board["weights"])):
        cells = [_area(board, (areas or {}).get(area)) for areas in (base_areas, *(row["areas"] for row in rows))]
        found.append(_spare(_two_lines(area), cells, 10 + place, f"area {area}"))
    for place, name in enumerate(name for name in answer_metrics(board) if name != measure.metric):
        shares = [share(mean_of(board, areas or {}, name)) for areas in (base_areas, *(row["areas"] for row in rows))]
        title = "exact\nmatch" if name == "exact_match" else _two_lines(metric_label(name))
        found.append(_spare(title, shares, place, metric_label(name)))
    found.append(Ranked(Column("trial", ["", *(row["trial_id"] for row in rows)], words=True)))
    return found


def fitting(columns: list[Ranked], width: int) -> tuple[list[Column], list[str]]:
    """The columns that fit side by side, and what the others show."""
    kept, left = list(columns), []
    while sum(one.column.width + GAP for one in kept) - GAP > width:
        last = max(kept, key=lambda one: one.dispensable)
        if not last.dispensable:
            break
        kept.remove(last)
        left.append(last.word)
    return [one.column for one in kept], left[::-1]


def _spare(header: str, cells: list[str], dispensable: int, word: str = "") -> Ranked:
    return Ranked(Column(header, cells), dispensable + 1, word or " ".join(header.split()))


def _two_lines(name: str, most: int = 9) -> str:
    """A long header over two lines, broken between its words."""
    words = name.replace("_", "_ ").replace("-", "- ").split()
    if len(name) <= most - 2 or len(words) < 2:
        return name
    half = min(range(1, len(words)), key=lambda k: max(len(" ".join(words[:k])), len(" ".join(words[k:]))))
    joined = [" ".join(part).replace("_ ", "_").replace("- ", "-") for part in (words[:half], words[half:])]
    return "\n".join(joined)


def _expected(board: Leaderboard, rows: list[LeaderboardRow]) -> list[str]:
    known = [setting_of(row).get("posterior") for row in rows]
    return [scored(board, value) for value in known] if any(value is not None for value in known) else []


def _gap(row: LeaderboardRow) -> tuple[str, str]:
    """How much worse than the best a setting is, and the interval of that."""
    figures = setting_of(row)
    if row["rank"] == 1 or figures["behind"] is None:
        return "", ""
    interval = figures["behind_interval"]
    shown = "" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]".replace("-", "−")
    return signed(figures["behind"]), shown


def _area(board: Leaderboard, figures: dict[str, float] | None) -> str:
    """An area's mean of the metric that decides."""
    measure = measure_of(board)
    value = (figures or {}).get(measure.metric)
    return UNKNOWN if value is None else share(value) if measure.higher_is_better else f"{value:.3f}"
