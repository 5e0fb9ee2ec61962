"""The objective against each searched hyper-parameter, with the recommended range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from analysis.advice.evidence import Span
from analysis.advice.observe import searched
from analysis.output.board_figures import first_upper
from analysis.output.formats import measure_of, scored
from analysis.report.elements.blocks import Chart, Grid, Section, Text
from analysis.report.elements.material import Material, Row
from analysis.report.elements.style import BLUE, GREEN, GREY, SYMBOLS, VERMILLION, chart, plain

BAND = "rgba(0,158,115,0.13)"


def section(material: Material) -> Section | None:
    spans = searched(material.sweep.config)
    if not spans or not material.ranked:
        return None
    bands = recommended_bands(material.plan)
    charts = [_chart(material, name, span, bands.get(name)) for name, span in spans.items()]
    shaded = "Shaded: the recommended range. " if bands.keys() & spans.keys() else ""
    label = measure_of(material.board).label
    base = (material.board["baseline"] or {}).get("objective")
    note = (
        f"Star: the first setting; diamonds: tied with it; circles: all others. {shaded}Dotted lines: the range that "
        "was searched. Along the upper edge: trials that diverged (crosses) or were stopped (triangles). The base "
        f"model's {label} is {scored(material.board, base)}. The values are in the leaderboard."
    )
    return Section("space", f"{first_upper(label)} by hyper-parameter", [Grid(charts), Text(note, "note")])


def recommended_bands(plan: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    """The plan's recommended ranges by hyper-parameter."""
    bounds = (plan or {}).get("recommended") or {}
    return {
        name: (float(ends[0]), float(ends[1]))
        for name, ends in bounds.items()
        # The plan's lower end is above the upper one where no range is recommended for all trials.
        if isinstance(ends, list) and len(ends) == 2 and float(ends[0]) <= float(ends[1])
    }


def _chart(material: Material, name: str, span: Span, band: tuple[float, float] | None) -> Chart:
    traces, measure = [], measure_of(material.board)
    for kind, color, size in (("ranked", GREY, 8), ("tied", BLUE, 10), ("winner", GREEN, 14)):
        rows = [row for row in material.ranked if _kind(row) == kind and name in row["params"]]
        points = [(row["trial_id"], row["params"][name], measure.turned(_objective(row))) for row in rows]
        hover = f"%{{text}}: %{{x:.3g}}, {measure.label} %{{y:.4f}}<extra></extra>"
        traces.append(_marks(points, hover, {"symbol": SYMBOLS[kind], "color": color, "size": size}))
    # Trials without a final loss are drawn at the upper edge, on a hidden axis of their own.
    for state, color in (("diverged", VERMILLION), ("pruned", GREY)):
        trials = [trial for trial in material.sweep.trials if trial.state == state and name in trial.params]
        points = [(trial.trial_id, trial.params[name], 1.0) for trial in trials]
        hover = f"%{{text}}: {state} at %{{x:.3g}}<extra></extra>"
        marker = {"symbol": SYMBOLS[state], "color": color, "size": 9}
        traces.append(_marks(points, hover, marker, yaxis="y2", cliponaxis=False))
    traces = [trace for trace in traces if trace.x]
    figure = chart(traces, name, f"{measure.label}, {'share' if measure.higher_is_better else 'nats'}")
    figure.update_xaxes(type="log" if span.log else "linear", exponentformat="e", nticks=5)
    if span.log:
        figure.update_xaxes(tickmode="array", tickvals=log_ticks(span))
    figure.update_layout(
        showlegend=False, yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    )
    for end in (span.low, span.high):
        figure.add_vline(x=end, line_dash="dot", line_width=1, line_color=GREY)
    if band:
        figure.add_vrect(x0=band[0], x1=band[1], fillcolor=BAND, line_width=0, layer="below")
    label = f"Held-out loss of {len(material.ranked)} settings against {name}, {span.low:.3g} to {span.high:.3g}."
    return Chart(f"space-{name.replace('_', '-')}", label, figure, 340)


def _marks(points: list[tuple[str, float, float]], hover: str, marker: dict[str, Any], **more: Any) -> go.Scatter:
    names, x, y = zip(*points, strict=True) if points else ((), (), ())
    texts = [plain(name) for name in names]
    return go.Scatter(x=x, y=y, text=texts, hovertemplate=hover, mode="markers", marker=marker, **more)


def log_ticks(span: Span) -> list[float]:
    """1, 2 and 5 times each power of ten in a range; the range's ends if fewer than two fit."""
    powers = range(math.floor(math.log10(span.low)), math.ceil(math.log10(span.high)) + 1)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if span.low <= tick <= span.high]
    return inside if len(inside) > 1 else [span.low, span.high]


def _objective(row: Row) -> float:
    assert row["setting"], "a ranked row has its setting"
    return row["setting"]["objective"]


def _kind(row: Row) -> str:
    return "winner" if row["rank"] == 1 else "tied" if row["tied"] else "ranked"
