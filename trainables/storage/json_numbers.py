"""Losses in JSON, where one that is not finite is null."""

from __future__ import annotations

import json
import math
from typing import Any


def json_line(record: dict[str, Any]) -> str:
    """The record as one line of JSON; numbers that are not finite become null."""
    # JSON has no NaN. Such records are rare, so the copy that replaces their numbers is made only for them.
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The JSON value with null for each number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number_or_nan(value: float | None) -> float:
    """The number that `json_line` stored; NaN for null."""
    return math.nan if value is None else float(value)
