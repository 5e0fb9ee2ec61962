"""Finished trials of earlier sweeps, as a head start for the sampler: `search.warm_start: [DIR, …]`.

An earlier sweep matches where its objective means the same: the same model and the same files, by SHA-256, the same
method, the same reading of the data, the same LR schedule's shape, and a base model that scores the same. Anything else
that a trial was trained with is a hyper-parameter: a trial whose value this sweep could not have drawn is outside its
space. Warm-start trials inform the sampler alone: they are not ranked and not exported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from analysis.records.locate import opened
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import TrialRecord
from sweeps.search.search_space import WARM_START
from sweeps.search.tell import as_trial
from trainables.config.hyperparameters import SEARCHABLE_LORA, SEARCHABLE_TRAINING
from trainables.config.sections import Params
from trainables.errors import UserError, UserErrors
from trainables.evaluation.objective import objective
from trainables.storage.layout import BASELINE_FILE, MANIFEST_FILE, SWEEP_FILE, TRIALS_FILE
from trainables.storage.object_store import is_url

BASE_TOLERANCE = 0.005
"""Nats a token by which the base model's objective may differ: other hardware and precision, not other data. Ours."""

NEEDED = (SWEEP_FILE, MANIFEST_FILE, BASELINE_FILE, TRIALS_FILE)

Areas = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """What an earlier sweep gave.

    Attributes:
        folder: Its folder, as the config names it.
        differs: Why it does not match, in words; empty where it does.
        trials: Its finished trials, as Optuna is told of them.
        outside: How many of its finished trials lie outside this sweep's space.
        failed: How many of its trials failed.
    """

    folder: str
    differs: list[str] = field(default_factory=list)
    trials: list[FrozenTrial] = field(default_factory=list)
    outside: int = 0
    failed: int = 0

    def words(self) -> str:
        """One line for the user."""
        if self.differs:
            return f"warm start: {self.folder} does not match: {'; '.join(self.differs)}"
        left_out = f"{self.outside} outside this space, {self.failed} failed"
        return f"warm start: {self.folder}: {len(self.trials)} trials added ({left_out})"

    def summary(self) -> dict[str, Any]:
        """For the ledger; `told` is all that Optuna was told, so that the study can be made again."""
        ids = [trial.user_attrs["trial_id"] for trial in self.trials]
        told = [
            {"value": t.value, "params": t.params, "points": t.intermediate_values, "attrs": t.user_attrs}
            for t in self.trials
        ]
        return {**vars(self), "trials": ids, "told": told}


def check_warm_start(config: SweepConfig) -> list[UserError]:
    """Folders that can't be earlier sweeps; for the pre-flight. Whether they match is known when the sweep runs."""
    mistakes = []
    for number, name in enumerate(config.search.warm_start):
        where, folder = f"search.warm_start[{number}]", _folder(name)
        missing = [file for file in NEEDED if not (folder / file).is_file()]
        if missing:
            got = f"{name} without {', '.join(missing)}"
            mistakes.append(UserError(where, "must be the folder of a sweep that has run", got, "check the path"))
        elif config.place in (name.rstrip("/"), str(folder.resolve())):
            mistakes.append(UserError(where, "must be another sweep's folder", name, "leave it out, or use --resume"))
    return mistakes


def read_warm_start(config: SweepConfig, baseline: Areas) -> list[Source]:
    """The finished trials of the sweeps that the config names.

    Args:
        config: The sweep; its `manifest.json` must have been written.
        baseline: The base model's summary of each area.

    Raises:
        UserErrors: What `check_warm_start` finds.
        UserError: A file of an earlier sweep is not what it should be.
    """
    if mistakes := check_warm_start(config):
        raise UserErrors(mistakes)
    if not config.search.warm_start:
        return []
    here = Side(config, _read(config.folder / MANIFEST_FILE), baseline)
    return [_source(name, here) for name in config.search.warm_start]


@dataclass(frozen=True)
class Side:
    """A sweep, as far as two are compared."""

    config: SweepConfig
    manifest: dict[str, Any]
    baseline: Areas


def _source(name: str, here: Side) -> Source:
    folder = _folder(name)
    try:
        config = load_config(folder / SWEEP_FILE)
    except (UserError, UserErrors) as error:
        return Source(name, [f"its sweep.yaml can't be read by this version: {error}"])
    there = Side(config, _read(folder / MANIFEST_FILE), _read(folder / BASELINE_FILE)["areas"])
    if differs := list(differences(here, there)):
        return Source(name, differs)
    return _finished(name, here, there)


def _finished(name: str, here: Side, there: Side) -> Source:
    trials: list[FrozenTrial] = []
    outside = failed = 0
    base_objective = objective(here.baseline, here.config.heldout.weights)
    for record in (record for record in _records(_folder(name)) if record["kind"] != "subset"):
        drawn = setting(there.config, {**record["params"], **(record["drawn"] or {})})
        if record["state"] == "failed":
            failed += 1
        elif not could_draw(here.config, drawn):
            outside += 1
        else:
            marked: TrialRecord = {**record, "params": drawn, "trial_id": f"{there.config.name}/{record['trial_id']}"}
            trial = as_trial(marked, here.config, base_objective, trials)
            trial.set_user_attr(WARM_START, name)
            trials.append(trial)
    kept = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return Source(name, [], kept, outside, failed + len(trials) - len(kept))


def differences(here: Side, there: Side) -> Iterator[str]:
    """Why two sweeps' objectives don't mean the same, in words."""
    one, other = here.config, there.config
    if not _same_files(here.manifest["model_sha256"], there.manifest["model_sha256"]):
        yield f"the model's weights differ ({one.model.name} here, {other.model.name} there)"
    yield from _unequal("model.method", one.model.method, other.model.method)
    if one.model.method == other.model.method == "lora":
        yield from _unequal("model.lora.target_modules", one.model.lora.target_modules, other.model.lora.target_modules)
    for name in ("train", *one.heldout.weights):
        hashes = (here.manifest["data_sha256"].get(name), there.manifest["data_sha256"].get(name))
        what = "the training data" if name == "train" else f"the held-out area {name}"
        if None in hashes:
            yield f"{what} can't be compared: no file with a hash {'here' if hashes[0] is None else 'there'}"
        elif hashes[0] != hashes[1]:
            yield f"{what} differ" if name == "train" else f"{what} differs"
    for key in ("fields", "template", "split", "max_tokens", "limit", "on_defect"):
        yield from _unequal(f"data.{key}", getattr(one.data, key), getattr(other.data, key))
    for name in one.heldout.weights.keys() & other.heldout.areas.keys():
        limits = one.heldout.areas[name].limit, other.heldout.areas[name].limit
        yield from _unequal(f"heldout.areas.{name}.limit", *limits)
    yield from _unequal("training.schedule", one.training.schedule, other.training.schedule)
    workers = one.resources.workers_per_lane, other.resources.workers_per_lane
    yield from _unequal("resources.workers_per_lane", *workers)
    if one.heldout.weights.keys() <= there.baseline.keys():
        bases = [objective(side.baseline, one.heldout.weights) for side in (here, there)]
        if not abs(bases[0] - bases[1]) <= BASE_TOLERANCE:
            yield f"the base model scores {bases[0]:.4f} here and {bases[1]:.4f} there"


def _unequal(key: str, here: Any, there: Any) -> Iterator[str]:
    if here != there:
        yield f"{key} is {here} here and {there} there"


def _same_files(here: dict[str, str], there: dict[str, str]) -> bool:
    """Whether the hashes agree, whatever the files are called; no hash is no agreement."""
    return bool(here) and sorted(here.values()) == sorted(there.values())


def setting(config: SweepConfig, params: Params) -> Params:
    """Every searchable value that a trial was trained with: those of its params, else of its config."""
    values = {name: getattr(config.training, name) for name in SEARCHABLE_TRAINING}
    if config.model.method == "lora":
        values |= {name: getattr(config.model.lora, key) for name, key in SEARCHABLE_LORA.items()}
    return {**values, **params}


def could_draw(config: SweepConfig, drawn: Params) -> bool:
    """Whether a sweep could draw this setting: inside its ranges, and equal to what it holds fixed."""
    fixed = setting(config, {})
    for name, value in drawn.items():
        low, high = config.space.ends().get(name, (fixed.get(name), fixed.get(name)))
        if low is None or high is None or not (low <= value <= high or (low == high and math.isclose(value, low))):
            return False
    return True


def _folder(name: str) -> Path:
    """An earlier sweep's folder, or this machine's copy of what lies at its URL."""
    if not is_url(name):
        return Path(name)
    with opened(name) as folder:
        return folder


def _records(folder: Path) -> list[TrialRecord]:
    """Trials that ended: the ledger's, whose lines are checked, else those of `trials.jsonl`."""
    events, _ = Ledger(folder).read()
    if ended := ended_trials(events):
        return ended
    lines = (folder / TRIALS_FILE).read_text(encoding="utf-8").splitlines()
    return [_parse(line, folder / TRIALS_FILE) for line in lines if line.strip()]


def _read(path: Path) -> dict[str, Any]:
    return _parse(path.read_text(encoding="utf-8"), path)


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(str(path), "must be JSON", error, "leave that sweep out of search.warm_start") from None
