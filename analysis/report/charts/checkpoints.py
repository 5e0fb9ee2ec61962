"""The held-out loss over training, from the base model at step 0, in all and by area; exact match where scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from analysis.output.board_figures import mean_of
from analysis.output.formats import labeled, nats, rate, with_interval
from analysis.report.elements.blocks import Block, Chart, Grid, Section, Table
from analysis.report.elements.material import Material, Row
from analysis.report.elements.style import FIRST, GREY, chart, plain

Figure = Callable[[dict[str, Any]], float | None]  # of a checkpoint's areas: what a curve draws
HEIGHT = 320
MOST_AREAS = 12  # with a chart of their own


def section(material: Material) -> Section | None:
    rows = [row for row in material.ranked if scored(row)]
    if not rows:
        return None
    weights = sorted(material.board["weights"])
    blocks: list[Block] = []
    if len(weights) > 1:
        charts = [_chart(material, rows, f"eval-{place}", area, _of_area(area)) for place, area in enumerate(weights)]
        blocks.append(Grid(charts[:MOST_AREAS]))
    if any(mean_of(material.board, point["areas"], "exact_match") is not None for row in rows for point in scored(row)):
        blocks.append(
            _chart(material, rows, "eval-match", "exact match", lambda a: mean_of(material.board, a, "exact_match"))
        )
    blocks.append(_table(rows))
    return Section("checkpoints", "Eval loss over training", blocks)


def first_chart(material: Material) -> list[Chart]:
    """The mean held-out loss over training, for the first screen."""
    rows = [row for row in material.ranked if scored(row)]
    name = "held-out loss"
    return [_chart(material, rows, "eval", name, lambda areas: mean_of(material.board, areas, "nll"))] if rows else []


def scored(row: Row) -> list[dict[str, Any]]:
    """A row's scored checkpoints, by step."""
    known = [point for point in row["checkpoints"] if point.get("objective") is not None and point.get("areas")]
    return sorted(known, key=lambda checkpoint: checkpoint["step"])


def _of_area(area: str) -> Figure:
    return lambda areas: (areas.get(area) or {}).get("nll")


def _chart(material: Material, rows: list[Row], name: str, what: str, figure: Figure) -> Chart:
    start = figure(material.board["baseline"].get("areas") or {})

    def points(row: Row) -> tuple[list[int], list[float]]:
        known = [(0, start), *((point["step"], figure(point["areas"])) for point in scored(row))]
        pairs = [(step, float(f"{value:.5g}")) for step, value in known if value is not None]
        return [step for step, _ in pairs], [value for _, value in pairs]

    traces = []
    # One trace for all others: hundreds of traces are slow. None breaks the line between two trials.
    if others := rows[len(FIRST) :]:
        steps: list[int | None] = []
        values: list[float | None] = []
        names: list[str] = []
        for row in others:
            own_steps, own = points(row)
            steps, values = [*steps, *own_steps, None], [*values, *own, None]
            names += [plain(labeled(row["trial_id"], row["params"]))] * (len(own) + 1)
        hover = {"text": names, "hovertemplate": "%{text}, step %{x}: %{y:.4f}<extra></extra>"}
        line = {"color": GREY, "width": 1}
        traces.append(go.Scatter(x=steps, y=values, line=line, opacity=0.5, name=f"others ({len(others)})", **hover))
    for row, (color, dash) in zip(rows, FIRST, strict=False):
        steps_, values_ = points(row)
        traces.append(
            go.Scatter(
                x=steps_,
                y=values_,
                mode="lines+markers",
                line={"color": color, "width": 2.5, "dash": dash},
                name=f"{row['rank']}. {plain(rate(row['params'].get('peak_lr')))}",
                hovertemplate=f"{plain(row['trial_id'])}, step %{{x}}: %{{y:.4f}}<extra></extra>",
            )
        )
    label = f"{what[0].upper()}{what[1:]} over training, from the base model at step 0, of {len(rows)} settings."
    return Chart(name, label, chart(traces, "step (0: base model)", plain(what)), HEIGHT)


def _table(rows: list[Row]) -> Table:
    cells = [
        [
            labeled(row["trial_id"], row["params"]),
            str(point["step"]),
            nats(loss(point)),
            with_interval(point.get("gain"), point.get("gain_interval")),
        ]
        for row in rows
        for point in scored(row)
    ]
    header = ["trial", "step", "held-out loss", "gain over base"]
    return Table("Checkpoints", header, cells, folded="The checkpoints as a table")


def loss(checkpoint: dict[str, Any]) -> float:
    """Its NLL, whatever decides; boards of earlier versions have it as the objective."""
    return float(checkpoint.get("nll", checkpoint["objective"]))
