"""A trial's held-out scores by item, kept until the diagnostics read them at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.data.dataset import TokenizedSet
from trainables.diagnostics import CurveMonitor, Finding, HeldoutPoint, heldout_findings
from trainables.evaluation.heldout import ItemScore
from trainables.storage.json_numbers import number_or_nan
from trainables.storage.layout import BASELINE_TRIAL, ITEMS_FILE, trial_file

# In the sweep's folder; written before the first trial starts.
BASELINE_ITEMS = trial_file(BASELINE_TRIAL, ITEMS_FILE)


class HeldoutEvidence:
    """The held-out losses of every checkpoint of one trial."""

    def __init__(self) -> None:
        self._points: list[HeldoutPoint] = []

    def add(self, step: int, scores: Mapping[str, Sequence[ItemScore]]) -> None:
        """Add a checkpoint's scores by area, in the sets' order."""
        self._points.append(
            HeldoutPoint(step, {area: [score.nll for score in found] for area, found in scores.items()})
        )

    def replay(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Restore the scores of an earlier start from its lines in `heldout.jsonl`."""
        points: dict[int, dict[str, list[float]]] = {}
        for line in lines:
            nll = number_or_nan(line["nll"])
            points.setdefault(line["step"], {}).setdefault(line["area"], []).append(nll)
        self._points += [HeldoutPoint(step, items) for step, items in points.items()]

    def findings(
        self, monitor: CurveMonitor, areas: Mapping[str, TokenizedSet], weights: Mapping[str, float], sweep_folder: Path
    ) -> list[Finding]:
        """Run the held-out diagnostics.

        Args:
            monitor: The monitor of the trial's curve.
            areas: The areas' items.
            weights: Weight of each area that selects.
            sweep_folder: Holds the base model's items; without that file nothing is compared with the base model.
        """
        if not self._points:
            return []
        scored = {area: areas[area] for area in self._points[0].items}
        groups = {area: [items.group(index) for index in range(len(items))] for area, items in scored.items()}
        base = _baseline(sweep_folder / BASELINE_ITEMS, scored)
        return heldout_findings(self._points, base, groups, weights, monitor.settings, monitor.training_fall)


def _baseline(path: Path, areas: Mapping[str, TokenizedSet]) -> dict[str, list[float]] | None:
    """The base model's losses in the sets' order."""
    if not path.exists():
        return None
    found: dict[tuple[str, str], float] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            found[item["area"], item["id"]] = number_or_nan(item["nll"])
    return {area: [found[area, name] for name in items.ids] for area, items in areas.items()}
