"""Findings of the pre-flight about what the data holds."""

from __future__ import annotations

from collections.abc import Iterator

from sweeps.plan.findings import Finding
from trainables.data.audit.audit import Audit
from trainables.data.forms.known_keys import MEANINGS
from trainables.data.samples import MESSAGE_KEYS


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
