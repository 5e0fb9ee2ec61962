"""Reads JSON and JSON Lines files that a sweep is, or was until it was killed, writing to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainables.errors import UserError


def read_json_lines(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Reads a JSON Lines file in which lines may have been cut off.

    A writer that is killed leaves half a line at the end; after a resume, whole lines may follow it.

    Args:
        path: The file; a missing one counts as empty, for a sweep that has only begun has none.

    Returns:
        (line number from 1, object) for each line, and a note for each line that was cut off: these are left out.

    Raises:
        UserError: A line isn't a JSON object in UTF-8 and wasn't cut off.
    """
    if not path.exists():
        return [], []
    raw_lines = path.read_bytes().split(b"\n")
    records: list[tuple[int, dict[str, Any]]] = []
    notes: list[str] = []
    for number, raw in enumerate(raw_lines, start=1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw.decode("utf-8"))
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append((number, record))
        elif record is None and (number == len(raw_lines) or _is_cut_off(raw)):
            notes.append(f"{path.parent.name}/{path.name}: line {number} was cut off and is left out")
        else:
            shown = repr(raw[:60].decode("utf-8", "replace"))
            raise UserError(f"{path} line {number}", "must be a JSON object", shown, "repair or remove the line")
    return records, notes


def _is_cut_off(raw: bytes) -> bool:
    """Whether the line starts an object and ends inside it: in a string, or with a bracket still open."""
    depth, in_string, escaped = 0, False, False
    for character in raw.decode("utf-8", "replace").strip():
        if escaped:
            escaped = False
        elif in_string:
            escaped = character == "\\"
            in_string = character != '"'
        elif character == '"':
            in_string = True
        else:
            depth += (character in "{[") - (character in "}]")
    return raw.lstrip().startswith(b"{") and (in_string or depth > 0)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object's file; None where there is none.

    Raises:
        UserError: It holds something else.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(str(path), "must be JSON in UTF-8", error, "restore the file that the sweep wrote") from error
    if not isinstance(found, dict):
        got = type(found).__name__
        raise UserError(str(path), "must hold an object", got, "restore the file that the sweep wrote")
    return found
