"""The manifest and the notes, for repeating the sweep or trusting it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.output.formats import labeled
from analysis.report.elements.blocks import Block, Points, Section, Table, Text
from analysis.report.elements.material import Material


def section(material: Material) -> Section:
    blocks: list[Block] = []
    if material.manifest:
        rows = [[name, value] for name, value in flattened(material.manifest)]
        blocks.append(Table("The manifest", ["what", "value"], rows, words=2))
    else:
        blocks.append(Text("There is no manifest.json."))
    if notes := [("", note) for note in material.board["notes"]]:
        blocks += [Text("Notes on the files:"), Points(notes)]
    errors = [
        (f"{labeled(trial.trial_id, trial.params)} {trial.state}", lines[-1])
        for trial in material.sweep.trials
        if (lines := (trial.error or "").strip().splitlines())
    ]
    if errors:
        blocks += [Text("Trials that failed:"), Points(errors)]
    return Section("manifest", "Reproducibility", blocks)


def flattened(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flattens nested fields to dotted names with values as text."""
    for name, value in fields.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from flattened(value, f"{dotted}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield dotted, "-" if value is None or value == [] else shown
