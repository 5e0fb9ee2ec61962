"""Audit of a finished sweep: nothing is lost, doubled or broken. Each check yields sentences about faults."""

from __future__ import annotations

import json
import math
import operator
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import torch

from sweeps.config.sweep_config import load_config
from sweeps.driver.context import lane_settings
from sweeps.ledger.history import ended_trials
from sweeps.ledger.ledger import Event, Ledger
from sweeps.plan.plan import Plan
from sweeps.search.study import open_storage
from tests.chaos.acts import CHECKPOINTS, STEPS, Act, ids
from tests.train_trial import train_trial
from trainables.config.trial_spec import LaneConfig
from trainables.evaluation.objective import objective
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO
from trainables.storage.sealed_folder import CheckpointError, verify

Record = dict[str, Any]
ROUNDING = 1e-3  # relative, and in nats; ours: float32, over a trial's steps


def audit(act: Act, folder: Path) -> list[str]:
    """All faults of a finished sweep."""
    events, _ = Ledger(folder).read()
    records = ended_trials(events)
    wrong = [
        *_trials(act, events, records, _lines(folder / "trials.jsonl")),
        *(fault for record in records for fault in _files(folder, record)),
        *_study(folder, records),
        *_litter(folder),
        *_board(folder),
        *uninterrupted(folder, records, to_the_bit=act.slots == 1),
    ]
    if act.wandb == "offline":
        wrong += _runs(folder, records)
    return wrong


def _trials(act: Act, events: list[Event], records: list[Record], lines: list[Record]) -> Iterator[str]:
    ended = [event["trial"] for event in events if event["event"] == "trial_ended"]
    for trial, count in Counter(record["trial_id"] for record in ended).items():
        if count > 1:
            yield f"doubled: {trial} ended {count} times"
    if sorted(record["trial_id"] for record in ended) != ids(act.trials):
        yield f"lost: of {act.trials} trials {sorted(record['trial_id'] for record in ended)} ended"
    for record in ended:
        if (record["state"], record["steps"], record["samples_seen"]) != ("complete", STEPS, 4 * STEPS):
            yield f"lost: {record['trial_id']} is {record['state']} after {record['steps']} steps: {record['error']}"
    if [_but_kept(line) for line in lines] != [_but_kept(record) for record in records]:
        yield "corrupt: trials.jsonl and the ledger differ"
    if events[-1]["event"] != "sweep_ended" or events[-1]["state"] != "complete":
        yield f"lost: the ledger ends with {events[-1]}"


def _files(folder: Path, record: Record) -> Iterator[str]:
    place, name = folder / "trials" / record["trial_id"], record["trial_id"]
    if [point["step"] for point in record["checkpoints"]] != list(CHECKPOINTS):
        yield f"lost: {name} has checkpoints {[point['step'] for point in record['checkpoints']]}"
    for point in record["checkpoints"]:
        try:
            if point["kept"]:
                verify(folder / point["path"])
            elif (folder / point["path"]).exists():
                yield f"left: {point['path']}, which was dropped"
        except CheckpointError as error:
            yield f"corrupt: {error}"
    curve = _lines(place / "curve.jsonl")
    if [line["step"] for line in curve] != list(range(1, STEPS + 1)):
        yield f"doubled: {name} has the steps {[line['step'] for line in curve]}"
    seen = Counter(sample for line in curve for sample in line["ids"])
    if set(seen.values()) != {1} or len(seen) != 4 * STEPS:
        yield f"doubled: {name} saw samples {max(seen.values())} times, {len(seen)} of {4 * STEPS}"
    items = Counter((line["step"], line["area"], line["id"]) for line in _lines(place / "heldout.jsonl"))
    if set(items.values()) != {1} or len(items) != len(CHECKPOINTS) * 24:
        yield f"doubled: {name} has {len(items)} held-out lines, some {max(items.values())} times"


def _study(folder: Path, records: list[Record]) -> Iterator[str]:
    storage = open_storage(folder)
    told = optuna.load_study(study_name=folder.name, storage=storage).trials
    weights = load_config(folder / "sweep.yaml").heldout.weights
    expected = {r["trial_id"]: objective(r["checkpoints"][-1]["areas"], weights) for r in records}
    found = [(trial.user_attrs.get("trial_id"), trial.state.name, trial.value) for trial in told]
    if sorted(found) != sorted((name, "COMPLETE", value) for name, value in expected.items()):
        yield f"corrupt: the study holds {found}, and should {expected}"


def _litter(folder: Path) -> Iterator[str]:
    # Half-written files and states of ended trials: harmless, but they would pile up.
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if relative.parts[0] == "wandb":
            continue
        half = path.suffix in (".partial", ".lock") or path.name.startswith(".") or path.name == "state"
        if half and path.name != "driver.lock":
            yield f"left: {relative}"


def _board(folder: Path) -> Iterator[str]:
    board = folder / "leaderboard.json"
    if not (board.is_file() and json.loads(board.read_text())["winner"] and (folder / "report.html").is_file()):
        yield "lost: the sweep has no leaderboard, no winner or no report"


def _runs(folder: Path, records: list[Record]) -> Iterator[str]:
    # One run id for each trial, over all attempts, and one for the sweep's summary, over all ends.
    found = {path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*")}
    if len(found) != len(records) + 1:
        yield f"doubled: {len(found)} W&B run ids of {len(records)} trials and a summary"


def uninterrupted(folder: Path, records: list[Record], *, to_the_bit: bool = True) -> Iterator[str]:
    """Compares trials with the same trials in one process, one by one, without interruption: curve, items, weights.

    Args:
        folder: The sweep's.
        records: Its complete trials.
        to_the_bit: Whether the numbers must be the same to the bit. Those of packed trials are so up to rounding: it
            depends on who else is in the pack.
    """
    config, plan = load_config(folder / "sweep.yaml"), Plan.read(folder)
    reference = folder.with_name(f"{folder.name}-uninterrupted")
    (reference / "cache").mkdir(parents=True, exist_ok=True)
    (reference / "cache" / "base_losses.arrow").write_bytes((folder / "cache" / "base_losses.arrow").read_bytes())
    settings = lane_settings(config, plan, threads=1).model_dump()
    settings = LaneConfig.model_validate({**settings, "output_dir": str(reference), "wandb": {"mode": "disabled"}})
    torch.set_num_threads(1)
    lane_state = LaneState.load(settings, torch.device("cpu"), SOLO)
    specs = {e["spec"]["trial_id"]: e["spec"] for e in Ledger(folder).read()[0] if e["event"] == "trial_submitted"}
    baseline = json.loads((folder / "baseline.json").read_text())["areas"]
    is_same = operator.eq if to_the_bit else _is_close
    for record in records:
        name = record["trial_id"]
        end = train_trial(lane_state, {"do": "trial", "spec": specs[name], "baseline": baseline})
        for file in ("curve.jsonl", "heldout.jsonl"):
            ours, theirs = (_lines(place / "trials" / name / file) for place in (folder, reference))
            if not is_same(ours, theirs):
                yield f"differs: {name}/{file} is not that of an uninterrupted training"
        for ours, theirs in zip(record["checkpoints"], end["checkpoints"], strict=True):
            if ours["kept"] and to_the_bit and _weights(folder / ours["path"]) != _weights(reference / theirs["path"]):
                yield f"differs: {ours['path']} is not that of an uninterrupted training"
            if not is_same(ours["areas"], theirs["areas"]):
                yield f"differs: {name} has other scores at step {ours['step']}"
        if to_the_bit and record["findings"] != end["findings"]:
            yield f"differs: {name} has other findings"


def _is_close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=ROUNDING, abs_tol=ROUNDING)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_is_close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_is_close, ours, theirs))
    return bool(ours == theirs)


def _but_kept(record: Record) -> Record:
    # Without the field that may change after a trial's line was written.
    return {**record, "checkpoints": [{**point, "kept": None} for point in record["checkpoints"]]}


def _weights(checkpoint: Path) -> dict[str, str]:
    # Not the adapter's config, which lists its layers in any order.
    return {name: digest for name, digest in verify(checkpoint).items() if name.endswith(".safetensors")}


def _lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
