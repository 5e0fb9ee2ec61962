"""What a reader needs to repeat the sweep or to trust it: the manifest and the notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.report.elements.blocks import Block, Points, Section, Table, Text
from analysis.report.elements.material import Material


def section(material: Material) -> Section:
    """The manifest as a table, and what was left out or repeated in the files."""
    blocks: list[Block] = []
    if material.manifest:
        rows = [[name, value] for name, value in flattened(material.manifest)]
        blocks.append(Table("The manifest", ["what", "value"], rows, words=2))
    else:
        blocks.append(Text("There is no manifest.json."))
    if notes := [("", note) for note in material.board["notes"]]:
        blocks += [Text("Notes on the files:"), Points(notes)]
    errors = [
        (f"{trial.trial_id} {trial.state}", trial.error.strip().splitlines()[-1])
        for trial in material.sweep.trials
        if (trial.error or "").strip() and trial.error
    ]
    if errors:
        blocks += [Text("Trials that ended with an error:"), Points(errors)]
    return Section("manifest", "Manifest and notes", blocks)


def flattened(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested fields as dotted names with their values as text."""
    for name, value in fields.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from flattened(value, f"{dotted}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield dotted, "-" if value is None or value == [] else shown
