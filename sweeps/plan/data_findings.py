"""Findings of the pre-flight about what the data holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.findings import Finding
from trainables.data.audit.audit import Audit
from trainables.data.defects import excerpt
from trainables.data.forms.known_keys import MEANINGS
from trainables.data.independence.tags import TAGS, TagCounts
from trainables.data.independence.two_sample import FEWEST_GROUPS
from trainables.data.samples import MESSAGE_KEYS

MOST_NAMED = 8


def unread_findings(audit: Audit) -> Iterator[Finding]:
    """Yields what stands in no prompt and no label: keys that other tools read, and plain metadata."""
    counts: dict[str, list[str]] = {}
    for one in audit.sets():
        for key, rows in one.unread_keys.items():
            counts.setdefault(key, []).append(f"{one.where.removeprefix('heldout.areas.')} {rows:,}")
    meanings = {key: MEANINGS.get(key.removeprefix(MESSAGE_KEYS)) for key in counts}
    known = [f"{key} ({why}; rows: {', '.join(counts[key])})" for key, why in meanings.items() if why]
    if known:
        text = (
            f"keys that other tools read and this one does not: {'; '.join(known)}; map them in data.fields, or name "
            "them in data.fields.metadata"
        )
        yield Finding("unread_keys", "warning", text)
    others = [f"{key} ({', '.join(counts[key])})" for key, why in meanings.items() if not why]
    if others:
        text = f"keys that are metadata, in no prompt and no label, and their rows: {'; '.join(others)}"
        if any(MESSAGE_KEYS in other for other in others):
            text += f"; those of {MESSAGE_KEYS} are given to the chat template, which may read them"
        yield Finding("metadata_keys", "info", text)


def tag_findings(config: SweepConfig, tags: Mapping[str, TagCounts]) -> Iterator[Finding]:
    """Yields whether the data has what the objective is for, and tags with too few samples to learn from or to score.

    Args:
        config: The sweep.
        tags: Counts by tag, of "data.train" and each area.
    """
    wanted = {tag: value for tag in TAGS if (value := getattr(config.objective, tag)) is not None}
    for tag, value in wanted.items():
        sides = {"data.train": ["data.train"], "areas that select": list(config.heldout.weights)}
        lacking = [side for side, names in sides.items() if not any(value in tags[one].get(tag, {}) for one in names)]
        if lacking:
            text = (
                f"objective.{tag} is {excerpt(value)}, but no sample of {' or '.join(lacking)} has as {tag}: the sweep "
                f"cannot show that it is learned; add such samples, or give them (or their area) the key {tag}"
            )
            yield Finding("objective_without_data", "warning", text)
    few = {
        f"{name} {tag}={excerpt(value)} {count['contexts']} of {count['samples']} samples"
        for name, found in tags.items()
        for tag, values in found.items()
        for value, count in values.items()
        if count["contexts"] < FEWEST_GROUPS and (wanted.get(tag) == value or (tag != "source" and len(values) > 1))
    }
    if few:
        text = (
            f"tags with fewer than {FEWEST_GROUPS} contexts: {'; '.join(sorted(few)[:MOST_NAMED])}"
            f"{'; …' if len(few) > MOST_NAMED else ''}: too few to learn from, or for a score of their own to tell "
            "checkpoints apart"
        )
        yield Finding("few_of_a_tag", "warning" if wanted else "info", text)
    trained = tags["data.train"]
    for tag in TAGS if trained else ():
        tested = {value for name in config.heldout.weights for value in tags[name].get(tag, {})}
        untested = [excerpt(value) for value in trained.get(tag, {}) if value not in tested]
        if tag != "source" and tested and untested:
            text = f"{tag} that is trained and that no area tests: {', '.join(untested[:MOST_NAMED])}"
            yield Finding("untested_tag", "info", text)
