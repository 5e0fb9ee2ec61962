"""The held-out loss along the epoch, checkpoint by checkpoint."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from analysis.output.formats import nats, with_interval
from analysis.report.elements.blocks import Chart, Section, Table, Text
from analysis.report.elements.material import Material, Row
from analysis.report.elements.style import FIRST, GREY, chart, plain


def section(material: Material) -> Section | None:
    rows = [row for row in material.ranked if len(scored(row)) > 1]
    if not rows:
        return None
    label = f"Held-out loss at the checkpoints of {len(rows)} settings, by step."
    note = "Loss: weighted mean over the areas. The lowest checkpoint of a trial speaks for it."
    chart_ = Chart("checkpoints", label, _figure(rows), 380, _table(rows))
    return Section("checkpoints", "Checkpoints along the epoch", [chart_, Text(note, "note")])


def scored(row: Row) -> list[dict[str, Any]]:
    """A row's scored checkpoints, by step."""
    known = [checkpoint for checkpoint in row["checkpoints"] if checkpoint.get("objective") is not None]
    return sorted(known, key=lambda checkpoint: checkpoint["step"])


def loss(checkpoint: dict[str, Any]) -> float:
    """Its NLL, whatever decides; boards of earlier versions have it as the objective."""
    return checkpoint.get("nll", checkpoint["objective"])


def _figure(rows: list[Row]) -> go.Figure:
    traces = []
    # One trace for all others: hundreds of traces are slow. None breaks the line between two trials.
    if others := rows[len(FIRST) :]:
        steps, losses, names = [], [], []
        for row in others:
            steps += [*(c["step"] for c in scored(row)), None]
            losses += [*(float(f"{loss(c):.5g}") for c in scored(row)), None]
            names += [plain(row["trial_id"])] * (len(scored(row)) + 1)
        hover = {"text": names, "hovertemplate": "%{text}, step %{x}: %{y:.4f}<extra></extra>"}
        line = {"color": GREY, "width": 1}
        traces.append(go.Scatter(x=steps, y=losses, line=line, opacity=0.5, name=f"others ({len(others)})", **hover))
    for row, (color, dash) in zip(rows, FIRST, strict=False):
        traces.append(
            go.Scatter(
                x=[c["step"] for c in scored(row)],
                y=[loss(c) for c in scored(row)],
                mode="lines+markers",
                line={"color": color, "width": 2.5, "dash": dash},
                name=f"{row['rank']}. {plain(row['trial_id'])}",
            )
        )
    return chart(traces, "step", "held-out loss, nats")


def _table(rows: list[Row]) -> Table:
    cells = [
        [row["trial_id"], str(c["step"]), nats(loss(c)), with_interval(c.get("gain"), c.get("gain_interval"))]
        for row in rows
        for c in scored(row)
    ]
    return Table("Checkpoints", ["trial", "step", "loss", "gain"], cells, folded="The checkpoints as a table")
