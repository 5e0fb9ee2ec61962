"""`python -m analysis.show DIR TRIAL`: one trial in the terminal: its settings, its curve, its scores, its findings."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.cli import Parser, nearest
from analysis.output.board_figures import metric_label, own_scorers
from analysis.output.formats import PARAM_LABELS, labeled, nats, ordered, percent, setting_value, share
from analysis.output.terminal_plots import plot
from analysis.records.locate import opened
from analysis.records.sweep import STATES, Sweep, Trial, read_sweep
from analysis.records.tag_scores import tag_scores
from analysis.stats.curve_smoothing import Curve, thin
from trainables.errors import UserError

EXAMPLE = """example:
  python -m analysis.show outputs/demo t0001

exit codes: 0 done, 2 wrong arguments or files"""

STYLES = dict(zip(STATES, ("green", "yellow", "red", "red"), strict=True))
SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
LABEL_CELLS = 9
MOST_WIDTH = 100
LOSS_LINES, LR_LINES = 12, 4

Line = tuple[str, str]


def show(folder: str | Path, trial_id: str, width: int) -> Iterator[Line]:
    """Describes a finished trial in lines of text, each with its `rich` style, for a terminal of `width` cells.

    Raises:
        UserError: The folder is no sweep's, or has no such trial.
    """
    sweep = read_sweep(folder)
    trial = _find(sweep, trial_id)
    yield from _heading(sweep, trial)
    records, notes = sweep.curve(trial_id)
    if records:
        yield from _curve(thin(records, trial.steps_planned, points=2 * MOST_WIDTH), min(width, MOST_WIDTH))
    else:
        yield "no loss curve", "dim"
    yield from _checkpoints(trial)
    yield from _tags(sweep, trial)
    yield from _findings(trial)
    for note in notes:
        yield f"note: {note}", ""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser("python -m analysis.show", "One trial: settings, loss curve, scores and findings.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder or URL, <storage_path>/<name>")
    parser.add_argument("trial", metavar="TRIAL", help="the trial's id, as the leaderboard names it")
    return parser.run(_show, arguments)


def _show(given: Namespace) -> None:
    # Texts of the user's files are printed as they are: [red] in an error message is no markup.
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    with opened(given.folder) as folder:
        for text, style in show(folder, given.trial, console.width):
            console.print(Text(text, style=style))


def _find(sweep: Sweep, trial_id: str) -> Trial:
    trials = {trial.trial_id: trial for trial in sweep.trials}
    if trial_id not in trials:
        remedy = nearest(trial_id, trials, "none: no trial has finished")
        raise UserError("TRIAL", "must be a finished trial of this sweep", trial_id, remedy)
    return trials[trial_id]


def _heading(sweep: Sweep, trial: Trial) -> Iterator[Line]:
    kind = f", {trial.kind} of {trial.replicate_of}" if trial.replicate_of else ""
    yield (
        f"{labeled(trial.trial_id, trial.params)} of {sweep.name}: {trial.state}{kind}, seed {trial.seed}",
        f"bold {STYLES[trial.state]}",
    )
    yield _values(trial.params), ""
    if trial.drawn:
        yield (
            f"sampled as {_values(trial.drawn)}, and adjusted: a floor above 0.8 of the peak would leave no decline",
            "dim",
        )
    seconds = trial.cost.get("device_seconds")
    cost = "" if seconds is None else f", {seconds:.0f} device-seconds"
    yield f"{trial.steps} of {trial.steps_planned} steps, {trial.samples_seen} samples{cost}", ""
    if lines := (trial.error or "").strip().splitlines():
        yield f"error: {lines[-1]}", "red"


def _values(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{PARAM_LABELS.get(name, name)} {setting_value(name, params[name])}" for name in ordered(params))


def _curve(curve: Curve, width: int) -> Iterator[Line]:
    # Less the base model's loss, what is left is what training changed, not how hard the samples were.
    values = curve.relative if curve.has_base else curve.loss
    base = "training loss − base model loss on the same samples"
    yield "", ""
    yield f"{base if curve.has_base else 'training loss'}, nats/token (smoothed)", "bold"
    yield from _panel(curve.steps, values, width, LOSS_LINES, "{:.2f}")
    yield "LR", "bold"
    yield from _panel(curve.steps, list(curve.lr), width, LR_LINES, "{:.1e}")
    last = str(curve.steps[-1])
    yield f"{'step':>{LABEL_CELLS - 2}}  {curve.steps[0]!s:<{max(1, width - LABEL_CELLS - len(last))}}{last}", "dim"


def _panel(steps: list[int], values: list[float | None], width: int, height: int, form: str) -> Iterator[Line]:
    known = [value for value in values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    labels = [form.format(high), *[""] * (height - 2), form.format(low)]
    lines = plot(steps, values, max(2, width - LABEL_CELLS), height)
    for label, line in zip(labels, lines, strict=True):
        yield f"{label:>{LABEL_CELLS - 2}} │{line}".rstrip(), "cyan"


def _checkpoints(trial: Trial) -> Iterator[Line]:
    for checkpoint in trial.checkpoints:
        shown = " · ".join(
            f"{area} {nats(summary.get('nll'))} ({', '.join(_answers(summary))})"
            for area, summary in sorted((checkpoint.get("areas") or {}).items())
        )
        yield f"held-out loss at step {checkpoint['step']}: {shown or 'not scored'}", ""


def _answers(summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"exact match {percent(summary.get('exact_match'))}"
    if count := summary.get("cut_answers"):
        yield f"{count} of {summary['items']} answers cut at max_new_tokens"
    for name in own_scorers(summary):
        yield f"{metric_label(name)} {share(summary[name])}"


def _tags(sweep: Sweep, trial: Trial) -> Iterator[Line]:
    if not trial.checkpoints:
        return
    step = trial.checkpoints[-1]["step"]
    for score in tag_scores(sweep, trial.trial_id, step):
        span = "" if isnan(score.low) else f" ({score.low:+.3f} to {score.high:+.3f})"
        counts = f"{score.items} items of {score.contexts} contexts"
        yield f"gain at step {step}, {score.tag} {score.value}: {score.gain:+.3f} nats/token{span}, {counts}", ""


def _findings(trial: Trial) -> Iterator[Line]:
    if not trial.findings:
        yield "no training problems detected", "dim"
    for finding in trial.findings:
        severity = finding["severity"]
        yield f"step {finding['step']}: {finding['rule']} ({severity}): {finding['advice']}", SEVERITY_STYLES[severity]


if __name__ == "__main__":
    sys.exit(main())
