"""`python -m analysis.list STORAGE`: all sweeps of a storage path, a line each, newest first."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich.cells import cell_len, set_cell_size

from analysis.cli import Parser, nearest
from analysis.index import read_index
from analysis.index.row import STATES, Row
from analysis.output.formats import UNKNOWN, nats, number, with_interval
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.list outputs
  python -m analysis.list outputs --model SmolLM2 --state complete --since 7d
  python -m analysis.list s3://bucket/sweeps --json

exit codes: 0 done, 2 wrong arguments or files"""

WIDEST = 36  # columns of a text; the JSON has it whole
_AGO = re.compile(r"([0-9]{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.list", "Lists the sweeps of a storage path, newest first.", EXAMPLE)
    parser.add_argument("storage", metavar="STORAGE", help="the storage_path of your configs: a folder or URL")
    parser.add_argument("--model", metavar="TEXT", help="only sweeps whose model's name holds this text")
    parser.add_argument("--data", metavar="TEXT", help="only sweeps whose training data's name holds this text")
    parser.add_argument("--state", help=f"only sweeps in this state: {', '.join(STATES)}")
    parser.add_argument("--since", metavar="WHEN", help="only sweeps started since: 2026-11-30, or 12h, 7d, 4w ago")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    return parser.run(_list, arguments)


def _list(given: Namespace) -> None:
    rows = chosen(read_index(given.storage), given.model, given.data, given.state, given.since)
    if given.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print("\n".join(table(rows)) if rows else "no sweep")


def chosen(
    rows: Sequence[Row],
    model: str | None,
    data: str | None,
    state: str | None,
    since: str | None,
    states: Sequence[str] = STATES,
) -> list[Row]:
    """The rows that pass all filters; a filter that is None passes all.

    Args:
        rows: As from `read_index`.
        model: A part of the model's name, in any case.
        data: A part of the training data's name, in any case.
        state: One of `states`.
        since: A date or time of ISO 8601 (UTC where it names no zone), or an age such as `7d`.
        states: All that there are.

    Raises:
        UserError: The state or the time is none.
    """
    if state is not None and state not in states:
        raise UserError("--state", "must be a state of a sweep", state, nearest(state, states))
    parts = {"model": (model or "").casefold(), "data": (data or "").casefold()}
    begin = started_since(since, datetime.now(UTC)) if since is not None else ""
    return [
        row
        for row in rows
        if state in (None, row["state"])
        and all(part in row[key].casefold() for key, part in parts.items())
        and (row["started"] or "") >= begin
    ]


def started_since(text: str, now: datetime) -> str:
    """A filter's time in the manifest's form, which sorts as text."""
    try:
        if ago := _AGO.fullmatch(text):
            begin = now - timedelta(hours=int(ago[1]) * _HOURS[ago[2]])
        else:
            begin = datetime.fromisoformat(text)
            begin = begin.astimezone(UTC) if begin.tzinfo else begin.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UserError("--since", "must be a date or an age", text, "write 2026-11-30, 12h, 7d or 4w") from None
    return begin.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")  # of a year before 1000, too


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned lines below a heading."""
    # Not rich's table, which takes seconds for a thousand rows.
    heads = ("sweep", "state", "started", "model", "data", "winner", "LR", "gain", "device h", "parent", "verdict")
    cells = [heads, *(_cells(row) for row in rows)]
    widths = [min(WIDEST, max(cell_len(line[k]) for line in cells)) for k in range(len(heads) - 1)]
    return [
        "  ".join([*(set_cell_size(_short(cell), width) for cell, width in zip(line, widths, strict=False)), line[-1]])
        for line in cells
    ]


def _cells(row: Row) -> tuple[str, ...]:
    winner = f"{row['winner']['trial_id']}/{row['winner']['step']}" if row["winner"] else UNKNOWN
    texts = (
        row["name"],
        row["state"],
        (row["started"] or UNKNOWN)[:16],
        row["model"],
        row["data"],
        winner,
        number(row["peak_lr"]),
        with_interval(row["gain"], row["gain_interval"]),
        nats(row["device_seconds"] / 3600),
        row["parent"] or UNKNOWN,
        row["problem"] or row["verdict"],
    )
    # A name may hold anything but a slash, also what moves a terminal's cursor.
    return tuple("".join(c if c.isprintable() else "?" for c in text) for text in texts)


def _short(text: str) -> str:
    # The end of a path tells more than its beginning.
    return text if cell_len(text) <= WIDEST else f"…{text[1 - WIDEST :]}"


if __name__ == "__main__":
    sys.exit(main())
