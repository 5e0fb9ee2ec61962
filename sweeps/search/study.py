"""The journal of the Optuna study, and the study rebuilt from the ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from analysis.output.leaderboard import Leaderboard
from sweeps.config.sweep_config import SweepConfig
from sweeps.ledger.history import Span, past_of
from sweeps.ledger.ledger import EPOCH, Event
from sweeps.ledger.trial_record import TrialRecord
from sweeps.search.paused_trials import PausedTrials
from sweeps.search.search_space import Distribution, distributions
from sweeps.search.tell import TrialOutcome, as_trials, frozen, timed
from trainables.config.trial_spec import TrialSpec
from trainables.storage.atomic import append_whole
from trainables.storage.layout import STUDY_FILE

MARKS = ("rank", "best_step", "best_objective")


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
    base = config.objective.measure.objective(baseline, weights)
    ended = as_trials([*past.ended, *paused], config, base, history, past.times)
    unfinished = (timed(_unfinished(spec, space), past.times.get(spec.trial_id)) for spec in past.unfinished)
    trials = [*history, *ended, *unfinished]
    _replace(config.folder, config.name, trials, {})
    return len(trials)


def tell_replicates(
    config: SweepConfig,
    records: Sequence[TrialRecord],
    base_objective: float,
    times: Mapping[str, Span] = MappingProxyType({}),
) -> None:
    """Adds ended replicates to a closed study as repeated observations. Arguments as for `as_trials`."""
    study = optuna.load_study(study_name=config.name, storage=open_storage(config.folder))
    before = study.get_trials(deepcopy=False)
    known = {trial.user_attrs.get("trial_id") for trial in before}
    # A resumed sweep's study has its earlier replicates already.
    new = [record for record in records if record["trial_id"] not in known]
    study.add_trials(as_trials(new, config, base_objective, before, times))


def mark_study(folder: Path, board: Leaderboard) -> None:
    """Writes into the study what the leaderboard says, so that users of Optuna are told the same.

    Each ranked trial gets the user attributes `rank` (of its setting), `best_step` and `best_objective` (of its best
    checkpoint, in the metric that decides); the study gets `winner` (trial, step and objective). Optuna's own
    `best_trial` goes by the last checkpoints.
    """
    if not (folder / STUDY_FILE).is_file():
        return
    study = optuna.load_study(study_name=None, storage=open_storage(folder))
    marks = dict(_marks(board))
    trials = study.get_trials()
    for trial in trials:
        kept = {name: value for name, value in trial.user_attrs.items() if name not in MARKS}
        trial.user_attrs = kept | marks.get(str(trial.user_attrs.get("trial_id")), {})
    winner = board["winner"] and {**board["winner"], "objective": marks[board["winner"]["trial_id"]]["best_objective"]}
    _replace(folder, study.study_name, trials, {**study.user_attrs, "winner": winner})


def _marks(board: Leaderboard) -> Iterator[tuple[str, dict[str, Any]]]:
    for setting in board["rows"]:
        for row in (setting, *setting["replicates"]):
            if setting["rank"] and row["step"] is not None:
                yield row["trial_id"], dict(zip(MARKS, (setting["rank"], row["step"], row["objective"]), strict=True))


def _replace(folder: Path, name: str, trials: Sequence[FrozenTrial], attrs: Mapping[str, Any]) -> None:
    # Into another file first, so that a crash leaves the old study.
    rebuilt = f".{STUDY_FILE}.rebuilt"
    (folder / rebuilt).unlink(missing_ok=True)
    study = optuna.create_study(storage=open_storage(folder, rebuilt), study_name=name)
    study.add_trials(trials)
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    os.replace(folder / rebuilt, folder / STUDY_FILE)


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
