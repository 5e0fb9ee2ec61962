"""Loss curves against the base model, with the LR schedules and the findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.output.formats import labeled, nats
from analysis.report.elements.blocks import Block, Chart, Points, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.report.elements.style import (
    FIRST,
    GREY,
    SEVERITIES,
    SEVERITY_COLORS,
    SEVERITY_SYMBOLS,
    VERMILLION,
    finished,
    plain,
)
from analysis.stats.curve_smoothing import Curve

GROUPS = (("complete", "solid", 0.45), ("pruned", "dot", 0.6), ("diverged", "dash", 0.8), ("failed", "dashdot", 0.6))
SHOWN_TRIALS = 6
MARGIN_OF_RANGE = 0.08


@dataclass(frozen=True)
class View:
    """Axes of the chart.

    Attributes:
        relative: Draw the loss less the base model's, instead of the loss.
        share: Draw over percent of the epoch, instead of steps.
    """

    relative: bool
    share: bool

    @classmethod
    def of(cls, curves: Iterable[Curve]) -> View:
        """Chooses the axes that all curves allow."""
        every = list(curves)
        # Epochs of different lengths, as of trials on parts of the data, compare only by their share.
        lengths = {curve.planned for curve in every}
        return cls(all(curve.has_base for curve in every), len(lengths) > 1 and None not in lengths)

    def values(self, curve: Curve) -> list[float | None]:
        return curve.relative if self.relative else curve.loss

    def place(self, curve: Curve, step: int) -> float:
        return round(100 * step / curve.planned, 2) if self.share and curve.planned else step

    @property
    def across(self) -> str:
        return "% of the epoch" if self.share else "step"


def section(material: Material) -> Section:
    if not material.curves:
        return Section("curves", "Training curves", [Text("No trial has a loss curve yet.")])
    view = View.of(material.curves.values())
    what = "training loss − base model loss on the same samples" if view.relative else "training loss"
    timed = _timed(material.curves)
    rates = "LR and tokens a second" if timed else "LR"
    panels = f"{what} (smoothed), training loss, gradient norm (dashed: where it is clipped), {rates}"
    label = f"Curves of {len(material.curves)} trials: {panels}, by {view.across}."
    chart = Chart("curves", label, _figure(material, view), 900 if timed else 760, _table(material, view))
    better = "; below 0 is better than the base model" if view.relative else ""
    note = (
        f"{what.capitalize()}, in nats/token, smoothed{better}. Every sample is seen once, so its loss is measured "
        "before the model has trained on it. Marks: diagnostic notes."
    )
    return Section("curves", "Training curves", [chart, Text(note, "note"), *_findings(material)])


def _label(material: Material, trial_id: str) -> str:
    return labeled(trial_id, material.trials[trial_id].params)


def named(material: Material) -> list[str]:
    """The trials that are drawn by name: the first settings with a curve."""
    return [row["trial_id"] for row in material.ranked if row["trial_id"] in material.curves][: len(FIRST)]


def _figure(material: Material, view: View) -> go.Figure:
    heights = [2, 1, 1, 1, 1] if _timed(material.curves) else [2, 1, 1, 1]
    figure = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.04)
    first = named(material)
    for state, dash, opacity in GROUPS:
        group = [t for t in material.sweep.trials if t.state == state and t.trial_id in material.curves]
        members = {t.trial_id: material.curves[t.trial_id] for t in group if t.trial_id not in first}
        if members:
            color = VERMILLION if state == "diverged" else GREY
            line = {"color": color, "width": 1, "dash": dash}
            _add(figure, f"{'other ' if first else ''}{state} ({len(members)})", members, view, line, opacity)
    for place, (name, (color, dash)) in enumerate(zip(first, FIRST, strict=False), start=1):
        line = {"color": color, "width": 2.5, "dash": dash}
        _add(figure, f"{place}. {plain(_label(material, name))}", {name: material.curves[name]}, view, line, 1.0)
    for severity in SEVERITIES:
        _mark(figure, material, severity, view)
    if view.relative:
        figure.add_hline(y=0, row=1, col=1, line_width=1, line_dash="dash", line_color=GREY)
    figure.update_yaxes(title_text="loss − base loss" if view.relative else "loss, nats/token", row=1, col=1)
    figure.update_yaxes(range=_range(material, view), row=1, col=1)
    clip = (material.sweep.config.get("training") or {}).get("max_grad_norm")
    if clip:
        figure.add_hline(y=float(clip), row=3, col=1, line_width=1, line_dash="dash", line_color=VERMILLION)
    figure.update_yaxes(title_text="loss, nats/token", row=2, col=1)
    figure.update_yaxes(title_text="grad norm", type="log", row=3, col=1)
    figure.update_yaxes(title_text="LR", tickformat=".1e", rangemode="tozero", row=4, col=1)
    if _timed(material.curves):
        figure.update_yaxes(title_text="tokens/s", rangemode="tozero", row=5, col=1)
    figure.update_xaxes(title_text=view.across, row=len(heights), col=1)
    return finished(figure)


def _timed(curves: Mapping[str, Curve]) -> bool:
    return any(curve.speed for curve in curves.values())


def _add(
    figure: go.Figure, name: str, curves: dict[str, Curve], view: View, line: dict[str, Any], opacity: float
) -> None:
    # One trace for a group: hundreds of traces are slow, and the gaps between curves cost nothing.
    steps = _joined([view.place(curve, step) for step in curve.steps] for curve in curves.values())
    names = _joined([plain(trial)] * len(curve.steps) for trial, curve in curves.items())
    shared = {"x": steps, "mode": "lines", "line": line, "opacity": opacity, "legendgroup": name, "name": name}
    hover = {"text": names, "hovertemplate": f"%{{text}}, {view.across} %{{x}}: %{{y:.4g}}<extra></extra>"}
    losses = _joined([_digits(v, 4) for v in view.values(curve)] for curve in curves.values())
    rates = _joined([_digits(rate, 3) for rate in curve.lr] for curve in curves.values())
    figure.add_trace(go.Scatter(y=losses, **shared, **hover), row=1, col=1)
    raw = _joined([_digits(loss, 4) for loss in curve.raw] for curve in curves.values())
    norms = _joined([_digits(norm, 3) for norm in curve.grad_norm] for curve in curves.values())
    for row, y in ((2, raw), (3, norms), (4, rates)):
        figure.add_trace(go.Scatter(y=y, showlegend=False, **shared, **hover), row=row, col=1)
    if _timed(curves):
        shared["x"] = _joined([view.place(curve, step) for step, _ in curve.speed] for curve in curves.values())
        hover["text"] = _joined([plain(trial)] * len(curve.speed) for trial, curve in curves.items())
        speeds = _joined([_digits(speed, 3) for _, speed in curve.speed] for curve in curves.values())
        figure.add_trace(go.Scatter(y=speeds, showlegend=False, **shared, **hover), row=5, col=1)


def _joined(parts: Iterable[list[Any]]) -> list[Any]:
    return [value for part in parts for value in (*part, None)]


def _mark(figure: go.Figure, material: Material, severity: str, view: View) -> None:
    marks = [
        (view.place(curve, step), _digits(height, 4), f"{plain(trial.trial_id)}: {plain(finding['rule'])}, step {step}")
        for trial in material.sweep.trials
        if (curve := material.curves.get(trial.trial_id))
        for finding in trial.findings
        if finding["severity"] == severity
        and (height := _at(curve, view.values(curve), step := finding["step"])) is not None
    ]
    if marks:
        steps, heights, texts = zip(*marks, strict=True)
        marker = {"color": SEVERITY_COLORS[severity], "symbol": SEVERITY_SYMBOLS[severity], "size": 9}
        points = {"x": steps, "y": heights, "text": texts, "hovertemplate": "%{text}<extra></extra>"}
        name = f"diagnostic {severity}: {len(steps)}"
        figure.add_trace(go.Scatter(mode="markers", marker=marker, name=name, **points), row=1, col=1)


def _at(curve: Curve, values: list[float | None], step: int) -> float | None:
    # The last point up to the step; before the first point, the first.
    known = [value for end, value in zip(curve.steps, values, strict=True) if end <= step and value is not None]
    return known[-1] if known else next((value for value in values if value is not None), None)


def _range(material: Material, view: View) -> list[float] | None:
    # The range of the complete trials: a diverged one would press all others flat.
    trials = material.trials
    tame = [curve for name, curve in material.curves.items() if trials[name].state == "complete"]
    found = [value for curve in tame or material.curves.values() for value in view.values(curve) if value is not None]
    if not found:
        return None
    margin = MARGIN_OF_RANGE * (max(found) - min(found) or 1.0)
    return [min(found) - margin, max(found) + margin]


def _table(material: Material, view: View) -> Table:
    rows = []
    for name, curve in material.curves.items():
        known = [value for value in view.values(curve) if value is not None]
        ends = [nats(known[0]), nats(min(known)), nats(known[-1])] if known else ["-", "-", "-"]
        rows.append([name, material.trials[name].state, str(curve.steps[-1]), *ends, f"{max(curve.lr):.2e}"])
    header = ["trial", "state", "steps", "first", "lowest", "last", "highest LR"]
    return Table("Loss curves, smoothed, in nats/token", header, rows, words=2, folded="The curves as a table")


def _findings(material: Material) -> list[Block]:
    # By rule: the trials, and the advice for the best-ranked of them.
    groups: dict[tuple[int, str], list[tuple[str, dict[str, Any]]]] = {}
    for trial in material.sweep.trials:
        for finding in trial.findings:
            key = (SEVERITIES.index(finding["severity"]), str(finding["rule"]))
            groups.setdefault(key, []).append((trial.trial_id, finding))
    if not groups:
        return [Text("No training problems detected.")]
    place = {row["trial_id"]: row["rank"] for row in material.ranked}
    points = []
    for (severity, rule), found in sorted(groups.items()):
        found.sort(key=lambda pair: (place.get(pair[0], len(place) + 1), pair[0]))
        first, finding = found[0]
        names = ", ".join(name for name, _ in found[:SHOWN_TRIALS])
        more = f" and {len(found) - SHOWN_TRIALS} more" if len(found) > SHOWN_TRIALS else ""
        term = f"{rule} ({SEVERITIES[severity]}), {names}{more}"
        points.append((term, f"at step {finding['step']} of {_label(material, first)}: {finding['advice']}"))
    return [Text("Diagnostic notes, with what to change:"), Points(points)]


def _digits(value: float | None, digits: int) -> float | None:
    # The page holds hundreds of curves: fewer digits make it smaller.
    return None if value is None else float(f"{value:.{digits}g}")
