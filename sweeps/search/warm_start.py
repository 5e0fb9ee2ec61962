"""Finished trials of earlier sweeps, as a head start for the sampler: `search.warm_start: [DIR, …]`.

An earlier sweep matches where its objective means the same: everything in `fingerprint` is equal and the base model
scores the same. Any other setting of a trial is a hyper-parameter: a trial whose value this sweep could not have drawn
is outside its space. Warm-start trials only inform the sampler: they are neither ranked nor exported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from analysis.records.locate import opened
from sweeps.config.differences import differences
from sweeps.config.sweep_config import SweepConfig, load_config
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import COMPARED, TrialRecord
from sweeps.search.search_space import WARM_START, distributions, fixed_params, holds
from sweeps.search.tell import as_trial
from trainables.config.hyperparameters import CHOSEN, idle, setting_of
from trainables.config.sections import Params
from trainables.errors import UserError, UserErrors
from trainables.evaluation.objective import ALWAYS_SCORED, NLL, objective
from trainables.storage.layout import BASELINE_FILE, MANIFEST_FILE, SWEEP_FILE, TRIALS_FILE
from trainables.storage.object_store import is_url

BASE_TOLERANCE = 0.005  # nats a token; other hardware and precision move the base model's objective less. Ours.

NEEDED = (SWEEP_FILE, MANIFEST_FILE, BASELINE_FILE, TRIALS_FILE)
DATA_KEYS = (
    "fields",
    "format",
    "template",
    "template_args",
    "train_on_template_text",
    "split",
    "max_tokens",
    "limit",
    "on_defect",
)

UNKNOWN = math.nan  # a missing hash: unequal to everything, to another missing hash too

Areas = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """Trials of an earlier sweep."""

    folder: str  # as the config names it
    differs: list[str] = field(default_factory=list)  # why it does not match, in words; empty where it does
    trials: list[FrozenTrial] = field(default_factory=list)  # finished, in this sweep's space
    outside: int = 0  # finished trials outside this sweep's space
    failed: int = 0

    def words(self) -> str:
        """One line for the user."""
        if self.differs:
            return f"warm start: {self.folder} does not match: {'; '.join(self.differs)}"
        left_out = f"{self.outside} outside this space, {self.failed} failed"
        return f"warm start: {self.folder}: {len(self.trials)} trials added ({left_out})"

    def summary(self) -> dict[str, Any]:
        """The ledger's event; `told` is all that Optuna was told, so that the study can be rebuilt."""
        ids = [trial.user_attrs["trial_id"] for trial in self.trials]
        told = [
            {"value": t.value, "params": t.params, "points": t.intermediate_values, "attrs": t.user_attrs}
            for t in self.trials
        ]
        return {**vars(self), "trials": ids, "told": told}


def check_warm_start(config: SweepConfig) -> list[UserError]:
    """Lists folders that can't be earlier sweeps, for the pre-flight; whether they match shows when the sweep runs."""
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
    """Reads the finished trials of the sweeps that the config names; needs this sweep's `manifest.json`.

    Raises:
        UserErrors: What `check_warm_start` finds.
        UserError: A file of an earlier sweep is not JSON.
    """
    if mistakes := check_warm_start(config):
        raise UserErrors(mistakes)
    if not config.search.warm_start:
        return []
    here = Side(config, _read(config.folder / MANIFEST_FILE), baseline)
    return [_source(name, here) for name in config.search.warm_start]


@dataclass(frozen=True)
class Side:
    """One of the two sweeps that are compared."""

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
    if differs := mismatches(here, there):
        return Source(name, differs)
    return _finished(name, here, there)


def _finished(name: str, here: Side, there: Side) -> Source:
    trials: list[FrozenTrial] = []
    outside = failed = 0
    base_objective = here.config.objective.measure.objective(here.baseline, here.config.heldout.weights)
    for record in (record for record in _records(_folder(name)) if record["kind"] in COMPARED):
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


def mismatches(here: Side, there: Side) -> list[str]:
    """Why two sweeps' objectives don't mean the same, in words; empty where they do."""
    weights, metric = here.config.heldout.weights, here.config.objective.metric
    # A choice that is searched on one side is a hyper-parameter of each trial, and compared as one.
    searched = {name for side in (here, there) for name in side.config.space.choices()}
    one_side, other_side = (fingerprint(side, weights, metric, searched) for side in (here, there))
    found = [
        f"{key} is {_shown(one)} here and {_shown(other)} there"
        for key, one, other in differences(one_side, other_side)
    ]
    if weights.keys() <= there.baseline.keys():
        one, other = (objective(side.baseline, weights) for side in (here, there))
        if not abs(one - other) <= BASE_TOLERANCE:  # also where one is NaN
            found.append(f"the base model scores {one:.4f} here and {other:.4f} there")
    return found


def fingerprint(side: Side, areas: Iterable[str], metric: str = NLL, searched: Collection[str] = ()) -> dict[str, Any]:
    """What two sweeps must share for the objective to mean the same, by config key.

    Args:
        side: The sweep.
        areas: Those in the objective.
        metric: That decides.
        searched: Hyper-parameters of which the config's values are left out.
    """
    config, hashes = side.config.model_dump(), side.manifest["data_sha256"]
    method, heldout = config["model"]["method"], config["heldout"]["areas"]
    # Sorted hashes without file names: the shards of a model may be called differently.
    weights = " ".join(sorted(side.manifest["model_sha256"].values()))
    lora = {"lora": {"target_modules": config["model"]["lora"]["target_modules"]}}
    if method != "lora" or "target_modules" in searched:
        lora = {}
    # The fraction is compared as a hyper-parameter of each trial.
    unused = {"decay_fraction", *(["shape"] if "schedule_shape" in searched else [])}
    # A file with the mark was refused by earlier versions, so that the rule never changed what was trained on.
    config["data"]["on_defect"].pop("byte_order_mark")
    schedule = {key: value for key, value in config["training"]["schedule"].items() if key not in unused}

    def answers(area: str) -> dict[str, Any]:
        # The same name may have another argument there.
        own = {} if metric in (NLL, *ALWAYS_SCORED) else {"scorers": heldout.get(area, {}).get("scorers")}
        return own | ({} if metric == NLL else {"max_new_tokens": heldout.get(area, {}).get("max_new_tokens")})

    return {
        "model": {"sha256": weights or UNKNOWN, "method": method, **lora},
        "data": {
            "train": {"sha256": hashes.get("train") or UNKNOWN},
            **{key: config["data"][key] for key in DATA_KEYS},
            "chat_template": side.manifest.get("chat_template_sha256"),
        },
        "heldout": {
            "areas": {
                name: {
                    "sha256": hashes.get(name) or UNKNOWN,
                    "limit": heldout.get(name, {}).get("limit"),
                    **answers(name),
                }
                for name in areas
            }
        },
        "training": {"schedule": schedule},
        "resources": {"workers_per_lane": config["resources"]["workers_per_lane"]},
    }


def _shown(value: Any) -> str:
    return "unknown" if value is UNKNOWN else str(value)


def setting(config: SweepConfig, params: Params) -> Params:
    """Every searchable value that a trial was trained with: from its params, else from its config."""
    return {**setting_of(config.training, config.model.lora if config.model.method == "lora" else None), **params}


def could_draw(config: SweepConfig, drawn: Params) -> bool:
    """Whether a sweep could draw this setting: inside its ranges, and equal to its fixed values."""
    fixed, searched = {**setting(config, {}), **fixed_params(config)}, distributions(config)
    for name, value in drawn.items():
        if name in searched:
            inside = holds(searched[name], value)
        elif name in CHOSEN or name not in fixed:
            inside = name in fixed and value == fixed[name]
        else:
            inside = name in idle(drawn) or math.isclose(value, fixed[name])
        if not inside:
            return False
    return True


def _folder(name: str) -> Path:
    if not is_url(name):
        return Path(name)
    with opened(name) as folder:
        return folder


def _records(folder: Path) -> list[TrialRecord]:
    # The ledger first: its lines carry checksums, those of trials.jsonl don't.
    if ended := ended_trials(Ledger(folder).read()[0]):
        return ended
    lines = (folder / TRIALS_FILE).read_text(encoding="utf-8").splitlines()
    records = (_parse(line, folder / TRIALS_FILE) for line in lines if line.strip())
    return list({record["trial_id"]: record for record in records}.values())  # a trial's last line counts


def _read(path: Path) -> dict[str, Any]:
    return _parse(path.read_text(encoding="utf-8"), path)


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(str(path), "must be JSON", error, "leave that sweep out of search.warm_start") from None
