"""Count the samples and contexts of each tag: `domain`, `source` and `skill`, keys of a row or of its area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.data.independence.texts import group_of
from trainables.data.samples import Sample

TAGS = ("domain", "source", "skill")
# Ours: a key with more values, or with a value for every other sample, names samples rather than groups of them.
MOST_VALUES = 50

TagCounts = dict[str, dict[str, dict[str, int]]]


def tags_of(meta: Mapping[str, Any], area: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a sample: its own, or else those of its area."""
    given = {tag: area.get(tag) if meta.get(tag) is None else meta[tag] for tag in TAGS}
    return {tag: str(value) for tag, value in given.items() if isinstance(value, str | int) and str(value).strip()}


def count_tags(samples: Sequence[Sample], area: Mapping[str, Any]) -> TagCounts:
    """Counts a data set's samples by tag.

    Args:
        samples: The data set.
        area: Tags of the whole set, for samples without their own.

    Returns:
        For each tag and value `{"samples", "contexts"}`, most samples first; no tag that names single samples.
    """
    numbers: dict[str, dict[str, int]] = {}
    contexts: dict[str, dict[str, set[str]]] = {}
    for sample in samples:
        for tag, value in tags_of(sample.meta, area).items():
            held = numbers.setdefault(tag, {})
            held[value] = held.get(value, 0) + 1
            contexts.setdefault(tag, {}).setdefault(value, set()).add(group_of(sample))
    return {
        tag: {
            value: {"samples": count, "contexts": len(contexts[tag][value])}
            for value, count in sorted(held.items(), key=lambda item: -item[1])
        }
        for tag, held in numbers.items()
        if len(held) <= MOST_VALUES and (len(held) == 1 or 2 * len(held) <= len(samples))
    }
