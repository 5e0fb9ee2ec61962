"""The verdict, its cost, and advice for the next sweep."""

from __future__ import annotations

import shlex
from collections import Counter

from analysis.report.elements.blocks import Points, Section, Text
from analysis.report.elements.material import Material
from trainables.storage.working_copy import place_of


def outcome(material: Material) -> Section:
    blocks = [Text(material.board["verdict"], "lead"), Text(cost_sentence(material))]
    return Section("outcome", "Outcome", blocks)


def cost_sentence(material: Material) -> str:
    """Number of trials by state, and their cost."""
    states = Counter(trial.state for trial in material.sweep.trials)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none ended"
    seconds = sum(trial.cost.get("device_seconds") or 0.0 for trial in material.sweep.trials)
    hours = material.device_hours
    whole = "" if hours is None else f"; the sweep held its devices for {hours:.2f} device-hours in all"
    return f"Trials: {counted}. They trained and were scored in {seconds / 3600:.2f} device-hours{whole}."


def next_steps(material: Material) -> Section:
    points = []
    for advice in material.board.get("advice") or []:
        values = ", ".join(f"{key} = {value}" for key, value in advice["changes"].items())
        points.append((values, advice["reason"]))
    if not points:
        return Section("next", "What to do next", [Text("The evidence asks for no further sweep of this space.")])
    place = shlex.quote(place_of(material.sweep.folder))
    note = f"As a config that runs: python -m analysis.suggest {place} --to next.yaml"
    return Section("next", "What to do next", [Points(points), Text(note, "note")])
