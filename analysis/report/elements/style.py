"""PURE. Style of the report's charts: colors, marks and the common layout."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

# Of Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008), which color-blind readers can tell apart, those that
# reach a contrast of 3 to 1 (WCAG 2.2, 1.4.11) both on white and on #16181c; tests compute it.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#808080"

# Color and dash of the settings that are drawn by name: the first three. The rest are gray.
FIRST = ((BLUE, "solid"), (GREEN, "dash"), (PURPLE, "dot"))

SYMBOLS = {"winner": "star", "tied": "diamond", "ranked": "circle", "diverged": "x", "pruned": "triangle-down"}
STATE_COLORS = {"complete": BLUE, "pruned": GREEN, "diverged": VERMILLION, "failed": GREY}
STATE_PATTERNS = {"complete": "", "pruned": "/", "diverged": "x", "failed": "."}
SEVERITY_COLORS = {"error": VERMILLION, "warning": PURPLE, "info": BLUE}
SEVERITY_SYMBOLS = {"error": "x", "warning": "triangle-up", "info": "circle-open"}
SEVERITIES = ("error", "warning", "info")


def plain(text: object) -> str:
    """Escapes text for a chart."""
    # Plotly reads some HTML in names and hover texts, and these may come from the user's files.
    return html.escape(str(text), quote=False)


def chart(traces: list[Any], x: str, y: str, **layout: Any) -> go.Figure:
    """A figure of one panel with named axes."""
    figure = go.Figure(traces)
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return finished(figure, **layout)


def finished(figure: go.Figure, **layout: Any) -> go.Figure:
    """Applies the common layout; the page sets the colors of text, lines and grid."""
    figure.update_layout(
        template="none",
        margin={"l": 62, "r": 14, "t": 24, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        hovermode="closest",
        dragmode=False,
        **layout,
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure


def error_bars(values: list[float], intervals: list[list[float] | None]) -> dict[str, Any]:
    """Plotly's error bars from values and intervals; none where an interval is unknown."""
    pairs = list(zip(values, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [ends[1] - value if ends else 0.0 for value, ends in pairs],
        "arrayminus": [value - ends[0] if ends else 0.0 for value, ends in pairs],
        "thickness": 1.5,
    }
