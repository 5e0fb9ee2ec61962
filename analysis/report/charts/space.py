"""The objective against each searched hyper-parameter, with the recommended range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from analysis.advice.evidence import Span
from analysis.advice.observe import searched
from analysis.output.board_figures import first_upper
from analysis.output.formats import PARAM_LABELS, labeled, measure_of, rate, scored
from analysis.output.leaderboard import Leaderboard
from analysis.output.leaderboard_table import setting_of
from analysis.report.elements.blocks import Chart, Grid, Section, Text
from analysis.report.elements.material import Material, Row
from analysis.report.elements.style import BLUE, GREEN, GREY, SYMBOLS, VERMILLION, chart, error_bars, plain
from trainables.evaluation.objective import Measure

SMALL_TICK = 0.01  # below it a tick is written as a power of ten
BAND, FIT_BAND = "rgba(0,158,115,0.13)", "rgba(0,114,178,0.18)"


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
        f"Star: the best setting; diamonds: tied with it; circles: all others. {shaded}Dotted lines: the range that "
        "was searched. Along the upper edge: trials that diverged (crosses) or were stopped early (triangles). The "
        f"base model's {label} is {scored(material.board, base)}. The values are in the leaderboard."
    )
    return Section("space", "Slice plots", [Grid(charts), Text(note, "note")])


def first_chart(material: Material) -> list[Chart]:
    """The objective over the peak LR with intervals, the base model's and the model's fit, for the first screen."""
    span = searched(material.sweep.config).get("peak_lr")
    if span is None or not material.ranked:
        return []
    one = _chart(material, "peak_lr", span, None)
    figure, measure, board = one.figure, measure_of(material.board), material.board
    rows = [row for row in material.ranked if "peak_lr" in row["params"]]
    base = (board["baseline"] or {}).get("objective")
    if base is not None:
        figure.add_hline(y=measure.turned(base), line_dash="dash", line_width=1, line_color=GREY)
        text = f"base model {scored(board, base)}"
        figure.add_annotation(
            x=0, xref="paper", y=measure.turned(base), text=text, showarrow=False, xanchor="left", yshift=9
        )
        # Under all marks: the intervals of the scores, and the fit.
        figure.add_traces([_intervals(rows, base, measure), *_fit(board, measure)])
    fit = " Line and band: the model's fit, ± 1 SD." if _curve(board) else ""
    label = f"{first_upper(measure.label)} against peak LR. Star: best; bars: 95 % CI; dashed: base model.{fit}"
    return [Chart("loss-by-lr", label, figure, 320)]


def _intervals(rows: list[Row], base: float, measure: Measure) -> go.Scatter:
    values, ends = [], []
    for row in rows:
        interval = setting_of(row).get("gain_interval") or row["gain_interval"]
        values.append(measure.turned(_objective(row)))
        ends.append(sorted(measure.turned(base - end) for end in interval) if interval else None)
    return go.Scatter(
        x=[row["params"]["peak_lr"] for row in rows],
        y=values,
        error_y=error_bars(values, ends),
        mode="markers",
        marker={"size": 1, "color": GREY},
        hoverinfo="skip",
    )


def _curve(board: Leaderboard) -> list[tuple[float, float, float]]:
    separation = board["separation"]
    model = separation.get("model") if separation else None
    return model.get("curve", []) if model else []


def _fit(board: Leaderboard, measure: Measure) -> list[go.Scatter]:
    """The posterior mean over the peak LR and its band; nothing where no model was fitted."""
    known = [(lr, measure.turned(mean), sd) for lr, mean, sd in _curve(board)]
    if not known:
        return []
    x = [lr for lr, _, _ in known]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": x}
    return [
        go.Scatter(y=[mean - sd for _, mean, sd in known], **edge),
        go.Scatter(y=[mean + sd for _, mean, sd in known], fill="tonexty", fillcolor=FIT_BAND, **edge),
        go.Scatter(x=x, y=[mean for _, mean, _ in known], mode="lines", line={"color": BLUE}, hoverinfo="skip"),
    ]


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
        points = [
            (labeled(row["trial_id"], row["params"]), row["params"][name], measure.turned(_objective(row)))
            for row in rows
        ]
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
    figure = chart(
        traces,
        PARAM_LABELS.get(name, name),
        f"{measure.label}, {'share' if measure.higher_is_better else 'nats/token'}",
    )
    figure.update_xaxes(type="log" if span.log else "linear", exponentformat="e", nticks=5)
    if span.log:
        ticks = log_ticks(span)
        texts = [rate(tick).replace(".0e", "e") if tick < SMALL_TICK else f"{tick:g}" for tick in ticks]
        figure.update_xaxes(tickmode="array", tickvals=ticks, ticktext=texts)
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
