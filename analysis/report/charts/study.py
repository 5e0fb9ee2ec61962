"""Importances of the hyper-parameters and parallel coordinates: Optuna's plots of the sweep's study."""

from __future__ import annotations

from pathlib import Path

import optuna
import plotly.graph_objects as go
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import plot_contour, plot_parallel_coordinate, plot_param_importances
from plotly.colors import sample_colorscale

from analysis.output.formats import measure_of
from analysis.report.elements.blocks import Block, Chart, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.report.elements.style import BLUE, GREY, VERMILLION, chart, finished, plain
from trainables.storage.layout import STUDY_FILE

FEW_LINES = 20
SCALE = [[0.0, BLUE], [0.5, GREY], [1.0, VERMILLION]]  # Optuna's own runs from white to navy: unseen on light or dark

# With fewer trials, fANOVA's forest has next to nothing to split. Ours.
FEWEST_FOR_IMPORTANCE = 10

# With fewer points a contour is a drawing of its interpolation. Ours.
FEWEST_FOR_CONTOUR = 8


def section(material: Material) -> Section | None:
    study = read_study(material.sweep.folder / STUDY_FILE, material.sweep.name)
    if study is None:
        return None
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    every = sorted({name for trial in complete for name in trial.params})
    # One that is the same in all trials has an axis of one point, and nothing to explain.
    params = [name for name in every if len({trial.params.get(name) for trial in complete}) > 1]
    if len(complete) < 2 or not params:
        return None
    blocks: list[Block] = []
    if len(complete) < FEWEST_FOR_IMPORTANCE:
        words = f"Importances are not shown: they need {FEWEST_FOR_IMPORTANCE} trials, this study has {len(complete)}."
        blocks.append(Text(words))
    # Equal losses have no variance to divide among the hyper-parameters.
    elif len({trial.value for trial in complete}) == 1:
        blocks.append(Text("Importances are not shown: all trials have the same loss."))
    elif len(params) > 1:
        blocks.append(_importances(study))
    if len(params) > 1:
        blocks.append(_parallel(study, params))
    blocks.append(_history(material, complete))
    if len(complete) >= FEWEST_FOR_CONTOUR and {"peak_lr", "warmup_fraction"} <= set(params):
        blocks.append(_contour(study))
    note = (
        "From the study as it was reported to Optuna (study.log). A trial that was stopped early counts with its "
        "predicted loss, a diverged one with the base model's. Open it with: optuna-dashboard study.log"
    )
    return Section("study", "Parallel coordinates and importance", [*blocks, Text(note, "note")])


def _history(material: Material, complete: list[FrozenTrial]) -> Chart:
    """Each trial's value in the order in which they finished, and the best so far."""
    ordered = sorted(complete, key=lambda trial: (str(trial.datetime_complete), trial.number))
    values = [float(trial.value or 0.0) for trial in ordered]
    names = [plain(trial.user_attrs.get("trial_id", trial.number)) for trial in ordered]
    best = [min(values[: place + 1]) for place in range(len(values))]
    x = list(range(1, len(values) + 1))
    marks = {"text": names, "hovertemplate": "%{text}: %{y:.4f}<extra></extra>"}
    traces = [
        go.Scatter(x=x, y=values, mode="markers", marker={"color": GREY, "size": 8}, name="trial", **marks),
        go.Scatter(x=x, y=best, mode="lines", line={"color": BLUE, "shape": "hv"}, name="best so far"),
    ]
    measure = measure_of(material.board)
    value = f"1 − {measure.label}" if measure.higher_is_better else measure.label
    figure = chart(traces, "trials finished", f"{value} (lower is better)")
    figure.update_xaxes(tickformat="d", dtick=max(1, len(values) // 10))
    label = f"Optimization history: the {value} of {len(values)} trials in the order in which they finished."
    return Chart("history", label, figure, 300)


def _contour(study: optuna.Study) -> Chart:
    figure = finished(plot_contour(study, params=["peak_lr", "warmup_fraction"], target_name="value"), title=None)
    figure.update_traces(colorscale=SCALE, reversescale=False, selector={"type": "contour"})
    figure.update_xaxes(title_text="peak LR", exponentformat="e")
    figure.update_yaxes(title_text="warm-up fraction")
    return Chart("contour", "The value over peak LR and warm-up, interpolated between the trials.", figure, 380)


def read_study(path: Path, name: str) -> optuna.Study | None:
    """The study in a sweep's journal; None without one."""
    if not path.is_file():
        return None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    if not names:
        return None
    return optuna.load_study(study_name=name if name in names else names[0], storage=storage)


def _importances(study: optuna.Study) -> Chart:
    evaluator = FanovaImportanceEvaluator(seed=0)
    shares = get_param_importances(study, evaluator=evaluator)
    figure = finished(plot_param_importances(study, evaluator=evaluator), title=None)
    figure.update_traces(marker={"color": BLUE}, textfont=None)
    figure.update_layout(showlegend=False, xaxis_title="share of the spread that it explains (fANOVA)", yaxis_title="")
    rows = [[name, f"{100 * share:.0f} %"] for name, share in shares.items()]
    table = Table("Importances", ["hyper-parameter", "importance"], rows, folded="The importances as a table")
    label = f"Importances of {len(shares)} hyper-parameters; {next(iter(shares))} is the largest."
    return Chart("importances", label, figure, 120 + 45 * len(shares), table)


def _parallel(study: optuna.Study, params: list[str]) -> Chart:
    figure = finished(plot_parallel_coordinate(study, params=params, target_name="loss"), title=None)
    for trace in figure.data[:-1]:  # each trial's loss is its first point, 0 for the lowest; the last trace is the bar
        trace.line.color = sample_colorscale(SCALE, trace.y[0])[0]
        trace.opacity = 0.5 if len(figure.data) > FEW_LINES else 1.0
    figure.data[-1].marker.update(colorscale=SCALE, reversescale=False)
    figure.update_layout(margin={"l": 40, "r": 10, "t": 40, "b": 60})
    label = (
        f"Each trial as a line over its loss and its {len(params)} hyper-parameters; the same figures are in the "
        "leaderboard."
    )
    return Chart("parallel", label, figure, 400)
