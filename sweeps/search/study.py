"""The Optuna study's journal, and the study as the ledger tells it."""

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
from sweeps.search.search_space import Distribution, distributions
from sweeps.search.tell import TrialOutcome, as_trials, frozen
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import objective
from trainables.storage.atomic import append_whole
from trainables.storage.layout import STUDY_FILE


def fresh_storage(folder: Path) -> JournalStorage:
    """An empty journal: the ledger, not the last journal, says what a resumed study holds."""
    (folder / STUDY_FILE).unlink(missing_ok=True)
    return open_storage(folder)


def open_storage(folder: Path, name: str = STUDY_FILE) -> JournalStorage:
    """The study's journal `study.log`, which `optuna-dashboard` opens too."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(StudyJournal(str(folder / name)))


class StudyJournal(JournalFileBackend):
    """A journal that one process writes; it does not wait until a line is on the disk.

    Every start of a sweep makes it anew from the ledger, which does.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends a line for each, all or none."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        append_whole(Path(self._file_path), lines.encode())


def rebuild_study(config: SweepConfig, events: list[Event]) -> int:
    """Replaces `study.log` by the study that the ledger tells of: every trial as Optuna was told of it.

    Trials stand in the order in which they ended, those that did not end last. Of these the ledger knows the setting
    alone, not the held-out points on the way.

    Args:
        config: The sweep.
        events: The ledger's; the base model's scores are among them.

    Returns:
        How many trials the study holds.
    """
    past, space = past_of(events), distributions(config)
    baseline = next(event["areas"] for event in events if event["event"] == "baseline")
    history = _warm_trials(events, space)
    ended = as_trials(past.ended, config, objective(baseline, config.heldout.weights), history)
    beside = f".{STUDY_FILE}.rebuilt"
    (config.folder / beside).unlink(missing_ok=True)
    study = optuna.create_study(storage=open_storage(config.folder, beside), study_name=config.name)
    trials = [*history, *ended, *(_unfinished(spec, space) for spec in past.unfinished)]
    study.add_trials(trials)
    os.replace(config.folder / beside, config.folder / STUDY_FILE)
    return len(trials)


def _warm_trials(events: list[Event], space: dict[str, Distribution]) -> list[FrozenTrial]:
    """Trials of earlier sweeps, as the last start that read them told Optuna."""
    read = [event for event in events if event["event"] == "warm_start"]
    told = [trial for event in read if event[EPOCH] == read[-1][EPOCH] for trial in event["told"]]
    return [_warm_trial(trial, space) for trial in told]


def _warm_trial(told: dict[str, Any], space: dict[str, Distribution]) -> FrozenTrial:
    points = {int(step): value for step, value in told["points"].items()}
    return frozen(TrialOutcome(TrialState.COMPLETE, told["value"]), told["params"], space, points, told["attrs"])


def _unfinished(spec: TrialSpec, space: dict[str, Distribution]) -> FrozenTrial:
    drawn = spec.params | (spec.drawn or {})
    return frozen(TrialOutcome(TrialState.FAIL, None), drawn, space, {}, {"trial_id": spec.trial_id})
