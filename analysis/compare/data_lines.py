"""Which training samples came, went and changed between two sweeps."""

from __future__ import annotations

from typing import Any

from analysis.records.sweep import Sweep
from analysis.suspects.find import read_texts
from trainables.errors import UserError
from trainables.storage.layout import CACHE_FOLDER, TRAIN_FILE

SHOWN_IDS = 3


def data_changes(first: Sweep, second: Sweep) -> dict[str, Any] | None:
    """The samples' numbers, and the ids that were added, removed or changed; None where a tokenized set is gone."""
    try:
        before, after = (read_texts(sweep.folder / CACHE_FOLDER / TRAIN_FILE) for sweep in (first, second))
    except UserError:
        return None
    both = before.keys() & after.keys()
    texts = [{name: (one[name].prompt, one[name].response) for name in both} for one in (before, after)]
    return {
        "samples": [len(before), len(after)],
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in both if texts[0][name] != texts[1][name]),
    }


def data_words(found: dict[str, Any], first: str, second: str) -> str:
    """`data_changes` as a sentence."""
    before, after = found["samples"]
    moved = [f"{len(found[way]):,} {way}{_ids(found[way])}" for way in ("added", "removed", "changed") if found[way]]
    if not moved:
        return f"Training data: the same {after:,} samples in {first} and {second}."
    return f"Training data, {first} to {second}: {before:,} → {after:,} samples; {', '.join(moved)}."


def _ids(ids: list[str]) -> str:
    return f" ({', '.join(ids[:SHOWN_IDS])}{', …' if len(ids) > SHOWN_IDS else ''})"
