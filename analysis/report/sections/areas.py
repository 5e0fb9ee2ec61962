"""Gains over the base model by held-out area, with intervals and guard-rails, then the sealed areas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from analysis.output.board_figures import cut_answers
from analysis.output.formats import UNKNOWN, labeled, measure_of, nats, percent, with_interval
from analysis.report.elements.blocks import Block, Cell, Chart, Section, Table, Text
from analysis.report.elements.material import Material, Row
from analysis.report.elements.style import FIRST, GREY, VERMILLION, chart, error_bars, plain
from analysis.report.sections.leaderboard import bar, reach_of

OUTCOMES = {"pass": "passed", "fail": "REGRESSED", "undecided": "too few items"}


def section(material: Material) -> Section | None:
    rows = material.ranked
    if not rows:
        return None
    blocks: list[Block] = [_chart(rows[: len(FIRST)], material), _table(rows[0], material)]
    rails: Mapping[str, Any] = material.board["guard_rails"] or {}
    if rails.get("allowed"):
        note = (
            "Regression check: held-out loss may exceed the base model's by at most not_worse_by, area by area "
            f"({rails.get('method', '')})."
        )
        blocks.append(Text(note, "note"))
    blocks += _sealed(material)
    return Section("areas", "Held-out areas", blocks)


def gain_of(summary: dict[str, Any]) -> tuple[float | None, list[float] | None]:
    """An area's gain over the base model and its interval; the leaderboard holds the loss difference."""
    delta, interval = summary.get("delta"), summary.get("delta_interval")
    return (None if delta is None else -delta), ([-interval[1], -interval[0]] if interval else None)


def _chart(rows: list[Row], material: Material) -> Chart:
    traces: list[Any] = []
    for row, (color, _) in zip(rows, FIRST, strict=False):
        known = {area: gain_of(summary) for area, summary in sorted(row["areas"].items())}
        known = {area: pair for area, pair in known.items() if pair[0] is not None}
        values = [pair[0] or 0.0 for pair in known.values()]
        traces.append(
            go.Scatter(
                x=values,
                y=[plain(area) for area in known],
                error_x=error_bars(values, [pair[1] for pair in known.values()]),
                mode="markers",
                orientation="h",
                offsetgroup=str(row["rank"]),
                marker={"color": color, "size": 10, "symbol": ("circle", "square", "diamond")[len(traces)]},
                name=f"{row['rank']}. {plain(labeled(row['trial_id'], row['params']))}",
                hovertemplate="%{y}: gain %{x:.3f}<extra></extra>",
            )
        )
    rails = material.board["guard_rails"]
    allowed = rails["allowed"] if rails else {}
    if allowed:
        traces.append(
            go.Scatter(
                x=[-value for value in allowed.values()],
                y=[plain(area) for area in allowed],
                mode="markers",
                offsetgroup="allowed",
                orientation="h",
                marker={"symbol": "line-ns-open", "size": 22, "color": VERMILLION, "line": {"width": 3}},
                name="regression limit",
                hovertemplate="%{y}: allowed %{x:.3f}<extra></extra>",
            )
        )
    unit = "share" if measure_of(material.board).higher_is_better else "nats"
    figure = chart(traces, f"gain over base, {unit} (right: better)", "")
    figure.update_layout(scattermode="group")
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color=GREY)
    areas = len(material.board["weights"])
    label = f"Gain over the base model in {areas} areas, with 95 % intervals, of the best {len(rows)} settings."
    return Chart("areas-gain", label, figure, 130 + 60 * areas)


def _table(row: Row, material: Material) -> Table:
    base = (material.board["baseline"] or {}).get("areas", {})
    weights, rails = material.board["weights"], row.get("guard_rails") or {}
    gains = {area: gain_of(summary) for area, summary in row["areas"].items()}
    reach = reach_of(interval for _, interval in gains.values())
    cut = bool(cut_answers(row["areas"]) or cut_answers(base))
    cells: list[list[Cell | str]] = []
    for area, summary in sorted(row["areas"].items()):
        rail = rails.get(area)
        said = f"{OUTCOMES[rail['outcome']]} (limit {nats(rail['allowed'])})" if rail else "none"
        gain, interval = gains[area]
        cells.append(
            [
                *(area, said, str(summary.get("items", "-")), f"{weights[area]:g}"),
                *(nats(base.get(area, {}).get("nll")), nats(summary["nll"])),
                Cell(with_interval(gain, interval), bar(gain, interval, reach)),
                *(percent(base.get(area, {}).get("exact_match")), percent(summary["exact_match"])),
                *(percent(base.get(area, {}).get("token_f1")), percent(summary["token_f1"])),
                *([_cut(base.get(area)), _cut(summary)] if cut else []),
            ]
        )
    header = [
        "area",
        "regression check",
        "items",
        "weight",
        "base loss",
        "loss",
        "gain",
        "base EM",
        "EM",
        "base F1",
        "F1",
        *(["cut, base", "cut"] if cut else []),
    ]
    note = ", cut: answers cut at max_new_tokens" if cut else ""
    name = labeled(row["trial_id"], row["params"])
    caption = f"The best setting, {name}, by area (EM: exact match, F1: token F1{note})"
    return Table(caption, header, cells, words=2)


def _cut(summary: Mapping[str, Any] | None) -> str:
    count = (summary or {}).get("cut_answers")
    return UNKNOWN if count is None else str(count)


def _sealed(material: Material) -> list[Block]:
    rows = []
    for area, scores in sorted((material.board.get("sealed") or {}).items()):
        gain, interval = gain_of(scores)
        rows.append([area, nats(scores["nll"]), with_interval(gain, interval), percent(scores["exact_match"])])
    caption = "Final test sets (sealed): scored once, for the best checkpoint, with no part in the ranking"
    return [Table(caption, ["test set", "loss", "gain", "EM"], rows)] if rows else []
