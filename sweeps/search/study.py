"""The journal of the Optuna study, and the study rebuilt from the ledger."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.history import past_of
from sweeps.ledger.ledger import EPOCH, Event
from sweeps.search.paused_trials import PausedTrials
from sweeps.search.search_space import Distribution, distributions
from sweeps.search.tell import TrialOutcome, as_trials, frozen
from trainables.config.trial_spec import TrialSpec
from trainables.storage.atomic import append_whole
from trainables.storage.layout import STUDY_FILE


def fresh_storage(folder: Path) -> JournalStorage:
    """Starts an empty journal; a resumed study is filled from the ledger, not from the last journal."""
    (folder / STUDY_FILE).unlink(missing_ok=True)
    return open_storage(folder)


def open_storage(folder: Path, name: str = STUDY_FILE) -> JournalStorage:
    """Opens the study's journal `study.log`, which `optuna-dashboard` can open too."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(StudyJournal(str(folder / name)))


class StudyJournal(JournalFileBackend):
    """A journal with one writer, without Optuna's file lock and fsync."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        # All lines or none, after waiting for room on a full disk. Not fsynced: every start of a sweep rebuilds the
        # journal from the ledger, which is.
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        append_whole(Path(self._file_path), lines.encode())


def rebuild_study(config: SweepConfig, events: list[Event]) -> int:
    """Replaces `study.log` by a study made from the ledger's events; returns the number of its trials.

    Trials come in the order of their ends, unfinished ones last and without held-out points, which the ledger lacks.
    """
    past, space = past_of(events), distributions(config)
    baseline = next(event["areas"] for event in events if event["event"] == "baseline")
    history = warm_trials(events, space)
    weights = config.heldout.weights
    paused = PausedTrials.of_past(past, weights).with_predictions(past.paused.values())
    ended = as_trials([*past.ended, *paused], config, config.objective.measure.objective(baseline, weights), history)
    # Into another file first, so that a crash leaves the old study.
    rebuilt = f".{STUDY_FILE}.rebuilt"
    (config.folder / rebuilt).unlink(missing_ok=True)
    study = optuna.create_study(storage=open_storage(config.folder, rebuilt), study_name=config.name)
    trials = [*history, *ended, *(_unfinished(spec, space) for spec in past.unfinished)]
    study.add_trials(trials)
    os.replace(config.folder / rebuilt, config.folder / STUDY_FILE)
    return len(trials)


def warm_trials(events: list[Event], space: dict[str, Distribution]) -> list[FrozenTrial]:
    """The trials of earlier sweeps, as the ledger's last start that read them had them."""
    read = [event for event in events if event["event"] == "warm_start"]
    trials = [trial for event in read if event[EPOCH] == read[-1][EPOCH] for trial in event["told"]]
    return [_warm_trial(trial, space) for trial in trials]


def _warm_trial(trial: dict[str, Any], space: dict[str, Distribution]) -> FrozenTrial:
    points = {int(step): value for step, value in trial["points"].items()}  # JSON turned the steps into text
    return frozen(TrialOutcome(TrialState.COMPLETE, trial["value"]), trial["params"], space, points, trial["attrs"])


def _unfinished(spec: TrialSpec, space: dict[str, Distribution]) -> FrozenTrial:
    drawn = spec.params | (spec.drawn or {})
    return frozen(TrialOutcome(TrialState.FAIL, None), drawn, space, {}, {"trial_id": spec.trial_id})
