"""Circuit breaker: trials that fail in a row with the same error point to a fault of the sweep. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

IN_A_ROW = 3

# The parts of an error that differ between trials with one cause: addresses, paths, ids, numbers. The order matters:
# a number pattern first would break up the others.
_PATTERNS = (
    (re.compile(r"0x[0-9a-fA-F]+"), "N"),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:)?(?:/[^\s/:,;'\"()]+)+/?"), "PATH"),
    (re.compile(r"\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b"), "ID"),
    (re.compile(r"\bt\d{4,}(?:-s\d+)?\b"), "ID"),
    (re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE), "N"),
)

# The project's own errors are whole sentences: their class says nothing to a user.
_OWN_CLASS = re.compile(r"^(?:trainables|sweeps|analysis)(?:\.\w+)+: ")


def last_line(error: str | None) -> str:
    # A traceback ends with the exception; what stands above differs even where the cause is the same.
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return _OWN_CLASS.sub("", lines[-1]) if lines else "no cause was reported"


def signature(error: str | None) -> str:
    """Reduces an error to its last line with paths, ids and numbers replaced."""
    line = last_line(error)
    for pattern, name in _PATTERNS:
        line = pattern.sub(name, line)
    return line


def common_cause(ended: Sequence[tuple[str, str | None]]) -> str | None:
    """Finds an error that the last `IN_A_ROW` trials have all failed with.

    Args:
        ended: State and error of each trial, in the order in which they ended.

    Returns:
        The last line of the last such error; None if the sweep should go on.
    """
    last = ended[-IN_A_ROW:]
    if len(last) < IN_A_ROW or any(state != "failed" for state, _ in last):
        return None
    return last_line(last[-1][1]) if len({signature(error) for _, error in last}) == 1 else None
