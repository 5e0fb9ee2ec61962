"""When trials fail alike, one after another: then the fault is not a trial's, and the sweep stops. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

IN_A_ROW = 3

_PATTERNS = (
    (re.compile(r"0x[0-9a-fA-F]+"), "N"),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:)?(?:/[^\s/:,;'\"()]+)+/?"), "PATH"),
    (re.compile(r"\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b"), "ID"),
    (re.compile(r"\bt\d{4,}(?:-s\d+)?\b"), "ID"),
    (re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE), "N"),
)


def last_line(error: str | None) -> str:
    """The line of an error that says what went wrong."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no cause was reported"


def likeness(error: str | None) -> str:
    """What errors that are alike have in common: the last line without its paths, ids and numbers."""
    line = last_line(error)
    for pattern, name in _PATTERNS:
        line = pattern.sub(name, line)
    return line


def common_cause(ended: Sequence[tuple[str, str | None]]) -> str | None:
    """Why the sweep should stop; None if it should go on.

    Args:
        ended: State and error of the trials that have ended, in the order in which they did.

    Returns:
        The last line of the last error where the last `IN_A_ROW` trials have all failed, alike.
    """
    last = ended[-IN_A_ROW:]
    if len(last) < IN_A_ROW or any(state != "failed" for state, _ in last):
        return None
    return last_line(last[-1][1]) if len({likeness(error) for _, error in last}) == 1 else None
