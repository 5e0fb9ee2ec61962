"""Differences between two configs, or other trees of mappings, leaf by leaf."""

from __future__ import annotations

from typing import Any


def differences(before: Any, now: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """Returns the leaves that differ: dotted key, old value, new value. A missing leaf is None."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [(place, before, now)]
    found = []
    for key in dict.fromkeys([*before, *now]):
        found += differences(before.get(key), now.get(key), f"{place}.{key}".strip("."))
    return found
