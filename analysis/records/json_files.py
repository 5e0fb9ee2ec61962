"""Reads JSON and JSON Lines files of a sweep that may be running or was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainables.errors import UserError


def read_json_lines(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Reads a JSON Lines file in which lines may have been cut off.

    Returns:
        (line number from 1, object) for each line, and a note for each cut-off line, which is left out.

    Raises:
        UserError: A line isn't a JSON object in UTF-8 and wasn't cut off.
    """
    if not path.exists():  # a sweep that has only begun
        return [], []
    raw_lines = path.read_bytes().split(b"\n")
    records: list[tuple[int, dict[str, Any]]] = []
    notes: list[str] = []
    for number, raw in enumerate(raw_lines, start=1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append((number, record))
        # A killed writer leaves half a line at the end; after a resume, whole lines follow it.
        elif record is None and (number == len(raw_lines) or _is_cut_off(raw)):
            notes.append(f"{path.parent.name}/{path.name}: line {number} was cut off and is left out")
        else:
            shown = repr(raw[:60].decode("utf-8", "replace"))
            raise UserError(f"{path} line {number}", "must be a JSON object", shown, "repair or remove the line")
    return records, notes


def _is_cut_off(raw: bytes) -> bool:
    # An object that ends inside a string or with a bracket still open. json's error position can't tell that apart
    # from a line that is broken otherwise.
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
    """Reads a file with one JSON object; None where there is none.

    Raises:
        UserError: It holds something else.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(str(path), "must be JSON in UTF-8", error, "restore the file that the sweep wrote") from error
    if not isinstance(found, dict):
        got = type(found).__name__
        raise UserError(str(path), "must hold an object", got, "restore the file that the sweep wrote")
    return found
