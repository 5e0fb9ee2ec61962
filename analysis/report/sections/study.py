"""Importances of the hyper-parameters and parallel coordinates: Optuna's plots of the sweep's study."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna.visualization import plot_parallel_coordinate, plot_param_importances
from plotly.colors import sample_colorscale

from analysis.report.elements.blocks import Block, Chart, Section, Table, Text
from analysis.report.elements.material import Material
from analysis.report.elements.style import BLUE, GREY, VERMILLION, finished
from trainables.storage.layout import STUDY_FILE

FEW_LINES = 20
SCALE = [[0.0, BLUE], [0.5, GREY], [1.0, VERMILLION]]  # Optuna's own runs from white to navy: unseen on light or dark

# With fewer trials, fANOVA's forest has next to nothing to split. Ours.
FEWEST_FOR_IMPORTANCE = 10


def section(material: Material) -> Section | None:
    study = read_study(material.sweep.folder / STUDY_FILE, material.sweep.name)
    if study is None:
        return None
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    params = sorted({name for trial in complete for name in trial.params})
    if len(complete) < 2 or not params:
        return None
    blocks: list[Block] = []
    if len(complete) < FEWEST_FOR_IMPORTANCE:
        words = f"Importances are not shown: they need {FEWEST_FOR_IMPORTANCE} trials, this study has {len(complete)}."
        blocks.append(Text(words))
    # Equal losses have no variance to divide among the hyper-parameters.
    elif len({trial.value for trial in complete}) == 1:
        blocks.append(Text("Importances are not shown: all trials ended with the same loss."))
    elif len(params) > 1:
        blocks.append(_importances(study))
    if len(params) > 1:
        blocks.append(_parallel(study, params))
    note = (
        "From the study as Optuna was told of it (study.log): a stopped trial counts with its predicted loss, a "
        "diverged one with the base model's. Open it with: optuna-dashboard study.log"
    )
    return Section("study", "Hyper-parameters together", [*blocks, Text(note, "note")])


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
