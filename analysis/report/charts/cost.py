"""What the sweep cost: by trial and state, in money, and when each trial ran."""

from __future__ import annotations

import plotly.graph_objects as go

from analysis.output.board_figures import counted
from analysis.output.formats import UNKNOWN, cost_words
from analysis.records.sweep import STATES, Trial
from analysis.report.charts.timeline import NAMED_TRIALS, timeline
from analysis.report.elements.blocks import Chart, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.report.elements.style import STATE_COLORS, STATE_PATTERNS, chart, plain


def section(material: Material) -> Section:
    trials = [trial for trial in material.sweep.trials if trial.cost.get("device_seconds") is not None]
    if not trials:
        return Section("cost", "Cost", [Text("No trial has finished yet.")])
    traces = []
    for state in STATES:
        if own := [trial for trial in trials if trial.state == state]:
            traces.append(
                go.Bar(
                    x=[plain(trial.trial_id) for trial in own],
                    y=[round(_seconds(trial), 2) for trial in own],
                    marker={
                        "color": STATE_COLORS[state],
                        "pattern": {"shape": STATE_PATTERNS[state]},
                        "line": {"width": 0},
                    },
                    name=f"{state} ({len(own)})",
                    hovertemplate="%{x}: %{y:.1f} s<extra></extra>",
                )
            )
    figure = chart(traces, "trial", "device-seconds")
    figure.update_layout(barmode="stack", bargap=0.05 if len(trials) > NAMED_TRIALS else 0.2)
    order = [plain(trial.trial_id) for trial in trials]
    shown = len(trials) <= NAMED_TRIALS
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order, showticklabels=shown)
    label = f"Device-seconds of {len(trials)} trials, by state."
    costs = Chart("cost", label, figure, 320, _table(material, trials))
    return Section("cost", "Cost", [Text(cost_sentence(material)), costs, *timeline(material)])


def cost_sentence(material: Material) -> str:
    """Number of trials by state, and their cost."""
    seconds = sum(trial.cost.get("device_seconds") or 0.0 for trial in material.sweep.trials)
    hours, trained = material.device_hours, f"{seconds / 3600:.2f} device-hours in training and evaluation"
    speed = tokens_per_second(material, [t for t in material.sweep.trials if t.cost.get("device_seconds")])
    said = "" if speed is None else f" Training: {speed:,.0f} tokens a device-second."
    price = (material.sweep.config.get("resources") or {}).get("price_per_device_hour")
    whole = trained if hours is None else f"{cost_words(hours, price)} in all, {trained}"
    return f"{counted(material.board)[:1].upper()}{counted(material.board)[1:]}. Cost: {whole}.{said}"


def _table(material: Material, trials: list[Trial]) -> Table:
    rows = []
    for state in STATES:
        if own := [trial for trial in trials if trial.state == state]:
            total = sum(map(_seconds, own))
            steps = sum(trial.steps or 0 for trial in own)
            speed = tokens_per_second(material, own)
            shown = UNKNOWN if speed is None else f"{speed:,.0f}"
            rows.append([state, str(len(own)), f"{total:,.0f}", f"{total / len(own):,.1f}", f"{steps:,}", shown])
    header = ["state", "trials", "device-seconds", "each", "steps", "tokens/s in training"]
    return Table("Cost by state", header, rows, folded="The cost by state as a table")


def tokens_per_second(material: Material, trials: list[Trial]) -> float | None:
    """Tokens of prompts and responses trained on, by device-second of training, evaluation left out.

    None where the plan does not count tokens, or a trial of an earlier version did not record its evaluation.
    """
    data = (material.plan or {}).get("train") or {}
    spent = [trial.cost.get("evaluation_seconds") for trial in trials]
    if not data.get("samples") or None in spent:
        return None
    seconds = sum(map(_seconds, trials)) - sum(filter(None, spent))
    seen = sum(trial.samples_seen or 0 for trial in trials)
    return seen * data["tokens"] / data["samples"] / seconds if seconds > 0 else None


def _seconds(trial: Trial) -> float:
    return float(trial.cost["device_seconds"])
