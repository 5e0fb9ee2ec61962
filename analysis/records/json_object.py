"""Reads the small JSON files of a sweep's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainables.errors import UserError


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
