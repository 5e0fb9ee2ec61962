"""Reads a sweep's folder as typed records, without Ray or torch.

A line that a killed writer cut off is left out and noted; every other line that can't be read is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.records.json_files import read_json_lines
from analysis.records.sweep_yaml import RESTORE, read_config, read_ranking
from analysis.stats.multiple_comparisons import Separation
from trainables.errors import UserError
from trainables.evaluation.objective import NLL, Measure
from trainables.storage.json_numbers import number_or_nan
from trainables.storage.layout import (
    BASELINE_FILE,
    CURVE_FILE,
    ITEMS_FILE,
    SPEED_FILE,
    SWEEP_FILE,
    TRIALS_FILE,
    TRIALS_FOLDER,
)

BASELINE = "baseline"
STATES = ("complete", "pruned", "diverged", "failed")


@dataclass(frozen=True, slots=True)
class HeldoutScore:
    """A line of `heldout.jsonl`: one item as one checkpoint (or the base model, at step 0) scored it."""

    area: str
    id: str  # unique in its area
    group: str  # cluster of items that share a context; the item's own id where the data names none
    nll: float  # summed loss of the item's response tokens divided by their number, nats a token; NaN where null
    tokens: int  # response tokens that the loss was taken on
    answer: str | None = None  # the generated answer; None where none was generated
    exact_match: float | None = None  # 0 or 1 by SQuAD's normalization; None where no answer was generated
    token_f1: float | None = None  # 0 to 1; None in the same cases
    cut: bool | None = None  # whether it had not ended after max_new_tokens; None also where it was not recorded
    scores: Mapping[str, float] = field(default_factory=dict)  # by the area's other scorers; empty in the same cases

    def value(self, metric: str) -> float | None:
        """The item's value by a metric; None where it has none."""
        own = {"nll": self.nll, "exact_match": self.exact_match, "token_f1": self.token_f1}
        return own[metric] if metric in own else self.scores.get(metric)


@dataclass(frozen=True)
class Heldout:
    """A `heldout.jsonl`: scores by step, then by (area, id), and notes on lines left out or repeated."""

    by_step: dict[int, dict[tuple[str, str], HeldoutScore]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """A line of `trials.jsonl`: one trial that ended."""

    trial_id: str
    state: str
    kind: str = "search"
    replicate_of: str | None = None
    fraction: float | None = None  # of the samples, for a trial of kind "subset" with the setting of `replicate_of`
    seed: int | None = None
    precision: str | None = None  # "fp32" or "bf16"; None in sweeps that did not write it
    params: Mapping[str, Any] = field(default_factory=dict)
    drawn: Mapping[str, Any] | None = None
    steps: int | None = None
    steps_planned: int | None = None
    samples_seen: int | None = None
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    cost: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def kept_steps(self) -> list[int]:
        """Steps of the checkpoints that are kept; of a sweep that did not write it, of all."""
        return [point["step"] for point in self.checkpoints if point.get("kept", True)]


FIRST_TRIAL = "t0001"
RETRAIN = "retrain"  # the kind of a trial that learnt the selecting areas too; no other trial compares with it


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, read."""

    folder: Path
    config: dict[str, Any]  # `sweep.yaml` as YAML reads it. Careful: plain YAML gives `1e-4` as a string.
    weights: dict[str, float]  # weight in the objective of each held-out area that selects, above 0
    # The base model's summary by area (`nll`, `exact_match`, `token_f1`, `items`); None if unscored
    baseline: dict[str, dict[str, Any]] | None
    trials: list[Trial]  # trials that ended, sorted by id, but for `retrained`
    notes: list[str]  # what was left out or repeated in the files, as sentences
    sealed: tuple[str, ...] = ()  # held-out areas that are scored once, at the end, and never count
    # Guard-rails in nats a token, by area; see `analysis.records.sweep_yaml`
    not_worse_by: Mapping[str, float] = field(default_factory=dict)
    separation: Separation = field(default_factory=Separation)  # when settings count as different, by the config
    retrained: Trial | None = None  # the winner's setting, trained on the selecting areas too (`winner.retrain`)

    @property
    def name(self) -> str:
        """The config's name, else the folder's."""
        return str(self.config.get("name") or self.folder.name)

    @property
    def statement(self) -> str:
        """The sweep's purpose, as its config states it; empty where it doesn't."""
        # Newer configs have a section here, older ones a text.
        objective = self.config.get("objective") or ""
        return str(objective.get("statement", "")) if isinstance(objective, dict) else str(objective)

    @property
    def measure(self) -> Measure:
        """The metric that decides; the NLL in sweeps of versions that had no other."""
        objective = self.config.get("objective")
        return Measure(str(objective.get("metric") or NLL) if isinstance(objective, dict) else NLL)

    @property
    def worthwhile(self) -> float:
        """Smallest lead over the recommended setting that is worth having, in the metric's unit."""
        objective = self.config.get("objective")
        stated = objective.get("worthwhile") if isinstance(objective, dict) else None
        return self.measure.worthwhile if stated is None else float(stated)

    @property
    def recommended_trial(self) -> str | None:
        """The search trial that tried the recommended point: the first, where the config asks for it."""
        search = self.config.get("search")
        asked = isinstance(search, dict) and search.get("seed_points") == "recommended"
        return FIRST_TRIAL if asked else None

    def heldout(self, trial_id: str = BASELINE) -> Heldout:
        """Reads the held-out items of a trial, or of the base model (step 0)."""
        return read_heldout(self.folder / TRIALS_FOLDER / trial_id / ITEMS_FILE)

    def curve(self, trial_id: str) -> tuple[list[dict[str, Any]], list[str]]:
        """Reads a trial's loss curve: a record a step, in file order, and notes; empty where there is no file."""
        lines, notes = read_json_lines(self.folder / TRIALS_FOLDER / trial_id / CURVE_FILE)
        return [record for _, record in lines], notes

    def speed(self, trial_id: str) -> list[dict[str, Any]]:
        """Reads how fast a trial trained: tokens and seconds between report points; empty in sweeps of before."""
        lines, _ = read_json_lines(self.folder / TRIALS_FOLDER / trial_id / SPEED_FILE)
        return [record for _, record in lines]


def read_sweep(folder: str | Path) -> Sweep:
    """Reads `sweep.yaml`, `baseline.json` and `trials.jsonl`; items and curves are read on demand.

    Args:
        folder: `<storage_path>/<name>` of a sweep, finished or running.

    Raises:
        UserError: The folder is missing or isn't a sweep's, or a file in it can't be read.
    """
    folder = Path(folder)
    config = read_config(folder)
    ranking = read_ranking(config, folder / SWEEP_FILE)
    lines, notes = read_json_lines(folder / TRIALS_FILE)
    trials: dict[str, Trial] = {}
    for number, record in lines:
        trial = _trial(record, f"{folder / 'trials.jsonl'} line {number}")
        if trial.trial_id in trials and trials[trial.trial_id].state != "failed":  # which a resume trains again
            notes.append(f"trials.jsonl holds trial {trial.trial_id} more than once; its last line counts")
        trials[trial.trial_id] = trial
    return Sweep(
        folder=folder,
        config=config,
        weights=ranking.weights,
        baseline=_read_baseline(folder / BASELINE_FILE),
        trials=sorted((one for one in trials.values() if one.kind != RETRAIN), key=lambda trial: trial.trial_id),
        notes=notes,
        sealed=ranking.sealed,
        not_worse_by=ranking.not_worse_by,
        separation=ranking.separation,
        retrained=next((one for one in trials.values() if one.kind == RETRAIN and one.state == "complete"), None),
    )


def read_heldout(path: Path) -> Heldout:
    """Reads a `heldout.jsonl`; a missing file gives no scores.

    Raises:
        UserError: A line is no JSON object or lacks a field.
    """
    lines, notes = read_json_lines(path)
    by_step: dict[int, dict[tuple[str, str], HeldoutScore]] = {}
    repeated = 0
    for number, record in lines:
        step, score = _item(record, f"{path} line {number}")
        scores = by_step.setdefault(step, {})
        # A trial that was run again after its lane died repeats items; the last line counts.
        repeated += (score.area, score.id) in scores
        scores[score.area, score.id] = score
    if repeated:
        notes.append(f"{path.parent.name}/{path.name}: {repeated} items stand there more than once; the last counts")
    return Heldout(by_step, notes)


def _item(record: dict[str, Any], where: str) -> tuple[int, HeldoutScore]:
    try:
        return int(record["step"]), HeldoutScore(
            area=str(record["area"]),
            id=str(record["id"]),
            group=str(record["id"] if record.get("group") is None else record["group"]),
            nll=number_or_nan(record["nll"]),
            tokens=int(record["tokens"]),
            answer=record.get("answer"),
            exact_match=record.get("exact_match"),
            token_f1=record.get("token_f1"),
            cut=record.get("cut"),
            scores=record.get("scores") or {},
        )
    except (KeyError, TypeError, ValueError) as error:
        rule = "must hold step, area, id, nll and tokens"
        raise UserError(where, rule, repr(error), "repair or remove the line") from error


def _trial(record: dict[str, Any], where: str) -> Trial:
    if not isinstance(record.get("trial_id"), str) or record.get("state") not in STATES:
        got = {key: record.get(key) for key in ("trial_id", "state")}
        raise UserError(where, f"must hold a trial_id and a state of {', '.join(STATES)}", got, "repair the line")
    known = {name: record[name] for name in Trial.__dataclass_fields__ if record.get(name) is not None}
    return Trial(**known)


def _read_baseline(path: Path) -> dict[str, dict[str, Any]] | None:
    if not path.is_file():
        return None
    try:
        areas = json.loads(path.read_text(encoding="utf-8"))["areas"]
        return {str(name): dict(summary) for name, summary in areas.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(str(path), 'must hold {"areas": {AREA: {…}}}', repr(error), RESTORE) from error
