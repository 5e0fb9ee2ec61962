"""The report: one page, whole without a network, and safe with whatever text the data hold."""

import dataclasses
import json
import re
from itertools import pairwise

import optuna
import plotly.graph_objects as go
import pyarrow as pa
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from analysis.output.formats import rate
from analysis.output.leaderboard_notes import lines_below
from analysis.output.verdict import summary
from analysis.report.__main__ import main
from analysis.report.charts import checkpoints, curves, space, study
from analysis.report.charts import cost as cost_chart
from analysis.report.charts.timeline import Run, runs
from analysis.report.elements.blocks import Chart
from analysis.report.elements.material import read_material
from analysis.report.elements.style import BLUE, GREEN, GREY, PURPLE, VERMILLION, plain
from analysis.report.page import SECTIONS, figure_json, write_report
from analysis.report.sections import areas, data, items, leaderboard, outcome
from analysis.stats.curve_smoothing import thin
from tests.unit.analysis.conftest import FakeTrial, replicate
from tests.unit.analysis.synthetic_sweep import CUT_ABOVE, EVIL, write_synthetic_sweep
from trainables.evaluation.objective import Measure

HEADINGS = [
    *("Outcome", "Leaderboard", "Examples: base vs best", "Eval loss over training", "Training curves"),
    *("Held-out areas", "Slice plots", "Parallel coordinates and importance", "Data checks"),
    *("Possibly mislabeled samples", "Next sweep", "Cost", "Reproducibility"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_synthetic_sweep(tmp_path_factory.mktemp("report"), 14)


@pytest.fixture(scope="module")
def material(folder):
    return read_material(folder)


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder).read_text()


def test_nothing_is_fetched(page):
    body = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=(?!\"data:)", body)
    assert page.count("plotly.js v") == 1


def test_text_of_the_users_is_escaped_in_the_page_and_in_figures(page):
    assert EVIL not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    figure = go.Figure(go.Scatter(x=[1], y=[2], name=f"a & b {EVIL} <!--"))
    text = figure_json(figure)
    assert not set("<>&") & set(text)
    assert json.loads(text)["data"][0]["name"] == f"a & b {EVIL} <!--"
    assert plain("<a href='http://x'>") == "&lt;a href='http://x'&gt;"


def test_figures_hold_no_number_that_json_lacks_and_are_described(page):
    figures = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, flags=re.S)
    assert len(figures) == 19
    assert all(json.loads(figure)["data"] for figure in figures)
    assert page.count('role="img" aria-label="') == page.count("<figure>") - 1 == 19


def test_each_section_is_there_in_order_named_by_its_heading_and_reached_from_the_navigation(page):
    assert re.findall(r"<h2[^>]*>([^<]*)</h2>", page) == HEADINGS
    assert len(SECTIONS) == len(HEADINGS)
    linked = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert linked == re.findall(r'<section id="([\w-]+)" aria-labelledby="h-\1">', page)
    assert len(linked) == len(HEADINGS)
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_outcome_says_what_the_leaderboard_says_and_what_it_cost(material):
    tiles, warnings, copies, grid = outcome.outcome(material).blocks
    lines = summary(material.board)
    assert [tile.label for tile in tiles.tiles] == [line.label for line in lines]
    assert tiles.tiles[0].value == rate(material.ranked[0]["params"]["peak_lr"])
    assert all(tile.value or tile.notes for tile in tiles.tiles)
    assert [text for _, text in warnings.points] == [one["reason"] for one in material.board["advice"]][:4]
    assert any("analysis.export" in text for _, text in copies.texts)
    assert [chart.name for chart in grid.charts] == ["loss-by-lr", "eval"]
    seconds = sum(trial.cost["device_seconds"] for trial in material.sweep.trials)
    cost = cost_chart.cost_sentence(material)
    assert cost.startswith("14 trials: ")
    assert f"Cost: 0.28 device-hours in all, {seconds / 3600:.2f} device-hours in training and evaluation." in cost
    tokens, steps = material.plan["train"]["tokens"], sum(trial.steps for trial in material.sweep.trials)
    seen = sum(trial.samples_seen for trial in material.sweep.trials)
    speed = seen * tokens / material.plan["train"]["samples"] / (1.5 * steps)  # 2 s a step, 0.5 of them in evaluation
    assert cost.endswith(f"Training: {speed:,.0f} tokens a device-second.")


def test_the_timeline_has_each_trial_from_its_end_and_its_time():
    def ended(trial, at, wall):
        return {"event": "trial_ended", "unix_seconds": at, "trial": {**trial, "cost": {"wall_seconds": wall}}}

    first = {"trial_id": "t1", "state": "complete", "params": {"peak_lr": 3e-4}}
    events = [
        {"event": "sweep_started", "unix_seconds": 1000.0},
        ended(first, 1180.0, 120.0),
        ended({"trial_id": "t2", "state": "diverged"}, 1240.0, 900.0),  # resumed: of both starts
        {"event": "trial_ended", "unix_seconds": 1300.0, "trial": {"trial_id": "t3", "state": "failed", "cost": {}}},
        {"event": "trial_ended", "trial": {"trial_id": "t4", "state": "complete"}},  # of a version without times
    ]
    assert runs(events) == [Run("t1 · 3.0e-4", "complete", 1.0, 3.0), Run("t2", "diverged", 0.0, 4.0)]
    assert runs([]) == []


def test_the_leaderboard_has_every_setting_once_and_bars_on_one_scale(material):
    table = leaderboard.section(material).blocks[0]
    place = table.header.index("trial")
    assert [row[place].text for row in table.cells] == ["", *(row["trial_id"] for row in material.board["rows"])]
    assert table.cells[0][1].text == "base"
    assert table.sortable
    assert {"peak LR", *material.board["weights"], "exact match"} <= set(table.header)
    assert len({len(row) for row in table.cells} | {len(table.header)}) == 1
    bars = [cell.bar for row in table.cells for cell in row if cell.bar]
    assert len(bars) == len(material.ranked)
    assert {bar.zero for bar in bars} == {bars[0].zero}
    assert all(0 <= bar.low <= bar.value <= bar.high <= 1 for bar in bars)
    assert min(bar.low for bar in bars) == 0.0  # of the loss minus the base model's


def test_every_curve_is_drawn_the_first_by_name_and_with_its_findings(material):
    chart = curves.section(material).blocks[0]
    names = [trace.name for trace in chart.figure.data if trace.showlegend is not False]
    assert [name for name in names if name[0].isdigit()] == [
        f"{place}. {row['trial_id']} · {rate(row['params']['peak_lr'])}"
        for place, row in enumerate(material.ranked[:3], start=1)
    ]
    upper = [trace for trace in chart.figure.data if trace.mode == "lines" and trace.yaxis == "y"]
    drawn = {text for trace in upper for text in trace.text if text}
    assert drawn == set(material.curves)
    marks = [trace for trace in chart.figure.data if trace.mode == "markers"]
    marked = {pair for trace in marks for pair in zip(trace.text, trace.x, strict=True)}
    found = [(t.trial_id, f["rule"], f["step"]) for t in material.sweep.trials for f in t.findings]
    assert marked == {(f"{name}: {rule}, step {step}", step) for name, rule, step in found}
    assert marked


def test_tokens_a_second_are_drawn_where_they_are_known(material):
    def lowest(material):
        (chart,) = [block for block in curves.section(material).blocks if isinstance(block, Chart)]
        return chart, [trace for trace in chart.figure.data if trace.yaxis == "y5"]

    chart, drawn = lowest(material)
    assert "tokens a second" in chart.label
    assert {name for trace in drawn for name in trace.text if name} == set(material.curves)
    assert next(zip(drawn[0].x, drawn[0].y, strict=True)) == (5, 488)  # 1,000 tokens in 2.05 s
    before = {name: dataclasses.replace(curve, speed=[]) for name, curve in material.curves.items()}
    chart, drawn = lowest(dataclasses.replace(material, curves=before))
    assert (drawn, "tokens" in chart.label) == ([], False)


def test_epochs_of_different_lengths_are_drawn_by_their_share():
    def view(*planned):
        return curves.View.of([thin([step(1, 2.0)], length) for length in planned])

    assert view(20, 20).across == "step"
    assert view(20, 40).across == "% of the epoch"
    assert view(20, None).across == "step"  # one length is not known
    assert view(20, 40).place(thin([step(1, 2.0)], 40), 10) == 25.0


def test_each_searched_hyper_parameter_has_a_panel_with_its_range_and_the_recommended_band(material):
    grid = space.section(material).blocks[0]
    assert [chart.name for chart in grid.charts] == [
        *("space-peak-lr", "space-warmup-fraction", "space-decay-floor", "space-lora-r"),
    ]
    points = sum(len(trace.x) for trace in grid.charts[0].figure.data if trace.yaxis is None)
    assert points == len(material.ranked)
    edges = {shape.x0 for shape in grid.charts[0].figure.layout.shapes}
    assert edges == {5e-5, 2e-3}
    with_band = space._chart(material, "peak_lr", space.searched(material.sweep.config)["peak_lr"], (1e-4, 1e-3))
    assert (1e-4, 1e-3) in {(shape.x0, shape.x1) for shape in with_band.figure.layout.shapes}


def test_gains_by_area_are_those_of_the_leaderboard(material):
    chart, table, *_ = areas.section(material).blocks
    first = material.ranked[0]
    drawn = dict(zip(chart.figure.data[0].y, chart.figure.data[0].x, strict=True))
    assert drawn == {area: -summary["delta"] for area, summary in first["areas"].items()}
    assert [row[0].text for row in table.cells] == sorted(first["areas"])


def test_every_item_comes_with_its_texts_and_outcome_those_that_changed_first(material):
    pairs = items.read_pairs(material)
    assert len(pairs) == 4 * 24
    section = items.section(material)
    (examples,) = (block for block in section.blocks if block.form == "examples")
    assert len(examples.rows) == len(pairs)
    assert examples.changes.keys() <= {"newly right", "newly wrong", "right", "wrong"}
    assert sum(examples.changes.values()) == len(pairs)
    changed = [row.change for row in examples.rows]
    assert changed.index("newly right") < changed.index("right" if "right" in changed else "wrong")
    assert all(row.prompt and row.expected and EVIL in row.best for row in examples.rows)
    cut = {(pair.base.area, pair.base.id): pair.base.nll > CUT_ABOVE for pair in pairs}
    assert {(row.area, row.id): row.base_cut for row in examples.rows} == cut
    table = areas.section(material).blocks[1]
    counts = {row[0].text: int(row[table.header.index("cut, base")].text) for row in table.cells}
    assert counts == {area: sum(n for (own, _), n in cut.items() if own == area) for area in counts}
    (said,) = (line for line in lines_below(material.board) if line.startswith("Answers cut at max_new_tokens, base"))
    assert sum(map(int, re.findall(r"(\d+) of 24", said))) == sum(cut.values()) > 0


def test_importances_wait_for_enough_trials_whose_losses_differ(material, tmp_path):
    assert [block.name for block in study.section(material).blocks[:-1]] == [
        "importances",
        "parallel",
        "history",
        "contour",
    ]
    few = read_material(write_synthetic_sweep(tmp_path, 4))
    assert study.section(few).blocks[0].text == "Importances are not shown: they need 10 trials, this study has 4."
    path = tmp_path / "study.log"
    told = optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))))
    space = {"peak_lr": FloatDistribution(0, 1), "lora_r": FloatDistribution(0, 1)}
    for number in range(12):
        point = {"peak_lr": number / 12, "lora_r": 0.5}
        told.add_trial(create_trial(params=point, distributions=space, value=1.0))
    sweep = dataclasses.replace(material.sweep, folder=tmp_path)
    section = study.section(dataclasses.replace(material, sweep=sweep))
    assert section.blocks[0].text == "Importances are not shown: all trials have the same loss."


def test_a_sweep_of_an_earlier_version_or_under_way_gives_what_there_is(write_sweep):
    folder = write_sweep([FakeTrial("t1", {10: 0.5}), replicate("t1", 1, {10: 0.4})])
    page = write_report(folder).read_text()
    assert "There is no manifest.json." in page
    assert "No trial has a loss curve yet." in page
    assert "over seeds" in page
    assert "Training sample" not in page  # its tokenized set is gone
    empty = write_report(write_sweep([], name="empty")).read_text()
    assert "nothing can be ranked" in empty


def test_the_command_says_where_the_page_lies(write_sweep, capsys, tmp_path):
    folder = write_sweep([FakeTrial("t1", {10: 0.5})])
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    (folder / "report.html").unlink()
    assert main([str(folder), "--to", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'page.html'}\n"
    assert not (folder / "report.html").exists()
    assert main([str(folder), "--to", str(tmp_path / "none/page.html")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none/page.html'}: must be writable, got No such")
    (folder / "plan.json").write_text("[1]")
    assert main([str(folder)]) == 2
    assert "plan.json: must hold an object, got list" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def step(number, loss, base=3.0, tokens=1):
    return {"step": number, "lr": number * 1e-5, "loss": loss, "base_loss": base, "tokens": tokens}


def test_a_short_curve_is_smoothed_over_three_steps_by_tokens():
    curve = thin([step(1, 2.0, tokens=1), step(2, 4.0, tokens=3), step(3, 1.0), step(4, 7.0)])
    assert curve.steps == [1, 2, 3, 4]
    assert curve.loss == pytest.approx([2.0, 3.5, (2 + 12 + 1) / 5, (12 + 1 + 7) / 5])
    assert curve.raw == [2.0, 4.0, 1.0, 7.0]
    assert curve.relative == pytest.approx([loss - 3.0 for loss in curve.loss])
    assert curve.lr == pytest.approx([1e-5, 2e-5, 3e-5, 4e-5])


def test_a_long_curve_has_few_points_each_a_mean_over_a_twentieth_of_the_steps():
    curve = thin([step(number, float(number)) for number in range(1, 1001)], points=100)
    assert curve.steps == list(range(10, 1001, 10))
    assert curve.loss[-1] == pytest.approx(sum(range(951, 1001)) / 50)
    assert curve.loss[0] == pytest.approx(5.5)
    assert (curve.raw[0], curve.raw[-1]) == (5.5, pytest.approx(995.5))
    assert len(thin([step(number, 1.0) for number in range(1, 1003)], points=100).steps) <= 100


def test_a_loss_that_is_not_finite_leaves_a_gap_and_no_base_means_no_difference():
    curve = thin([step(1, 2.0), step(2, None), step(3, "nan"), step(4, 2.0), step(5, 2.0), step(6, 2.0)])
    assert curve.loss == [2.0, None, None, None, None, 2.0]
    assert not thin([step(1, 2.0, base=None)]).has_base
    assert thin([]).steps == []


@pytest.mark.parametrize("color", [BLUE, VERMILLION, GREEN, PURPLE, GREY])
@pytest.mark.parametrize("paper", ["#ffffff", "#16181c"])
def test_colors_of_marks_reach_a_contrast_of_three_to_one(color, paper):
    assert contrast(color, paper) >= 3.0


def contrast(one, other):
    """WCAG 2.2's contrast ratio."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_loss_over_the_lr_has_intervals_the_base_model_and_the_models_fit(material):
    (chart,) = space.first_chart(material)
    (bars,) = (trace for trace in chart.figure.data if trace.error_y.array is not None)
    row = material.ranked[0]
    base = material.board["baseline"]["objective"]
    interval = row["setting"]["gain_interval"] or row["gain_interval"]
    assert bars.x[0] == row["params"]["peak_lr"]
    assert bars.y[0] - bars.error_y.arrayminus[0] == pytest.approx(base - interval[1])
    assert {shape.y0 for shape in chart.figure.layout.shapes} >= {base}
    assert not any(trace.fill for trace in chart.figure.data), "another hyper-parameter is searched: no model"


def test_where_a_model_names_the_best_its_fit_is_drawn_with_a_band(material):
    curve = [[1e-4, 1.2, 0.1], [3e-4, 1.0, 0.1], [1e-3, 1.1, 0.1]]
    board = {**material.board, "separation": {**material.board["separation"], "model": {"curve": curve}}}
    low, high, mean = space._fit(board, Measure())
    assert (list(mean.x), list(mean.y)) == ([1e-4, 3e-4, 1e-3], [1.2, 1.0, 1.1])
    assert [b - a for a, b in zip(low.y, high.y, strict=True)] == pytest.approx([0.2] * 3)
    assert "the model's fit" in space.first_chart(dataclasses.replace(material, board=board))[0].label


def test_eval_curves_begin_at_the_base_model(material):
    section = checkpoints.section(material)
    charts = section.blocks[0].charts
    assert len(charts) == len(material.board["weights"])
    for chart, area in zip(charts, sorted(material.board["weights"]), strict=True):
        first = chart.figure.data[-1]
        assert first.x[0] == 0
        assert first.y[0] == pytest.approx(material.board["baseline"]["areas"][area]["nll"], rel=1e-4)


def test_a_training_sample_is_shown_with_what_carries_loss(material):
    (block,) = data.rendered_sample(material)
    learnt = "".join(text for text, marked in block.parts if marked)
    assert learnt
    with pa.memory_map(str(material.sweep.folder / "cache" / "train.arrow")) as source:
        row = pa.ipc.open_file(source).read_all().to_pylist()[0]
    assert row["response"] in learnt
    assert row["prompt"] in "".join(text for text, marked in block.parts if not marked)
    shown = dataclasses.replace(material, plan={"shown": [["s1", [["Q:", False], ["A", True]]]]})
    assert data.rendered_sample(shown)[0].parts == [("Q:", False), ("A", True)]
