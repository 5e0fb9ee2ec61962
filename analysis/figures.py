"""The report's figures, as Plotly draws them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from analysis.records import Sweep

# Okabe and Ito's palette, told apart by colour-blind readers (jfly.uni-koeln.de/color, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
SMOOTHED_STEPS = 5
MARGIN = {"l": 60, "r": 20, "t": 30, "b": 50}


def plotly_script() -> str:
    """Plotly's own JavaScript, so that the page needs no network."""
    return get_plotlyjs()


def curves_figure(sweep: Sweep) -> str:
    """Training loss of every trial (mean over five steps, nats a token) above its LR schedule, by step."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.06)
    for number, trial in enumerate(sweep.trials):
        curve, _ = sweep.curve(trial.trial_id)
        line: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "width": 1.5}
        steps = [step["step"] for step in curve]
        shared: dict[str, Any] = {"x": steps, "mode": "lines", "line": line, "legendgroup": trial.trial_id}
        losses = smoothed([step["loss"] for step in curve], SMOOTHED_STEPS)
        figure.add_trace(go.Scatter(y=losses, name=trial.trial_id, **shared), row=1, col=1)
        rates = [step["lr"] for step in curve]
        figure.add_trace(go.Scatter(y=rates, name=trial.trial_id, showlegend=False, **shared), row=2, col=1)
    figure.update_yaxes(title_text="loss, nats a token", row=1, col=1)
    figure.update_yaxes(title_text="LR", tickformat=".0e", row=2, col=1)
    figure.update_xaxes(title_text="step", row=2, col=1)
    return _html(figure, "curves", 520)


def objective_figure(board: dict[str, Any]) -> str:
    """Held-out loss of each ranked trial's best checkpoint against its peak LR, the base model's as a line."""
    rows = [row for row in board["rows"] if row["rank"] is not None and "peak_lr" in row["params"]]
    figure = go.Figure(
        go.Scatter(
            x=[row["params"]["peak_lr"] for row in rows],
            y=[row["objective"] for row in rows],
            text=[row["trial_id"] for row in rows],
            mode="markers+text",
            textposition="top center",
            marker={"size": 10, "color": COLOURS[0]},
            name="trials",
        )
    )
    if board["baseline"]:
        figure.add_hline(y=board["baseline"]["objective"], line_dash="dash", annotation_text="base model")
    figure.update_xaxes(title_text="peak LR", type="log")
    figure.update_yaxes(title_text="held-out loss, nats a token")
    return _html(figure, "objective", 380)


def smoothed(values: list[float | None], window: int) -> list[float | None]:
    """Trailing means over `window` values; None where one of them is missing (a loss that was not finite)."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - window) : end]
        known = [value for value in part if value is not None]
        means.append(sum(known) / len(known) if len(known) == len(part) else None)
    return means


def _html(figure: go.Figure, name: str, height: int) -> str:
    figure.update_layout(height=height, margin=MARGIN, legend={"orientation": "h"}, template="simple_white")
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config={"responsive": True})
