"""When each trial ran: from its end in the ledger and its time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analysis.output.formats import labeled
from analysis.records.sweep import STATES
from analysis.report.elements.blocks import Chart
from analysis.report.elements.material import Material
from analysis.report.elements.style import STATE_COLORS, STATE_PATTERNS, chart, plain

NAMED_TRIALS = 40
ROW_PIXELS, MOST_PIXELS = 22, 700


@dataclass(frozen=True)
class Run:
    """A trial's time on the workers, in minutes since the sweep's start.

    One that was resumed is drawn as if in one go: its time is that of all its attempts.
    """

    name: str
    state: str
    begin: float
    end: float


def runs(events: Iterable[Mapping[str, Any]]) -> list[Run]:
    """The trials that ended, in the order of their ends; none where the ledger has no times."""
    started, found = None, []
    for event in events:
        now = event.get("unix_seconds")
        if now is None:
            continue
        started = float(now) if started is None else started
        trial = event.get("trial") or {}
        wall = (trial.get("cost") or {}).get("wall_seconds")
        if event["event"] == "trial_ended" and wall is not None:
            end = (float(now) - started) / 60
            name = labeled(trial["trial_id"], trial.get("params"))
            found.append(Run(name, str(trial["state"]), max(0.0, end - float(wall) / 60), end))
    return found


def timeline(material: Material) -> list[Chart]:
    """A bar a trial, by state; no chart where the ledger is gone."""
    every, traces = runs(material.ledger), []
    for state in STATES:
        if own := [run for run in every if run.state == state]:
            traces.append(
                go.Bar(
                    y=[plain(run.name) for run in own],
                    x=[round(run.end - run.begin, 3) for run in own],
                    base=[round(run.begin, 3) for run in own],
                    orientation="h",
                    marker={"color": STATE_COLORS[state], "pattern": {"shape": STATE_PATTERNS[state]}},
                    name=f"{state} ({len(own)})",
                    hovertemplate="%{y}: from minute %{base:.1f}<extra></extra>",
                )
            )
    if not traces:
        return []
    figure = chart(traces, "minutes since the start", "")
    order = [plain(run.name) for run in reversed(every)]
    names = {"type": "category", "categoryorder": "array", "categoryarray": order}
    figure.update_yaxes(**names, showticklabels=len(every) <= NAMED_TRIALS)
    figure.update_layout(barmode="overlay", bargap=0.3)
    label = f"Timeline: when each of {len(every)} trials ran, by state."
    return [Chart("timeline", label, figure, min(MOST_PIXELS, 130 + ROW_PIXELS * len(every)))]
