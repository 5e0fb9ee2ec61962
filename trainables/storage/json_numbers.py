"""Losses in JSON: one that is not finite is stored as null, for JSON has no NaN."""

from __future__ import annotations

import json
import math
from typing import Any


def json_line(record: dict[str, Any]) -> str:
    """One line; a loss that is not finite becomes null."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number_or_nan(value: float | None) -> float:
    """A number as `json_line` stored it; NaN for null."""
    return math.nan if value is None else float(value)
