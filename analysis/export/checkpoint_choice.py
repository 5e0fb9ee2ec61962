"""Finds the checkpoint to export, its folder and its base model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.cli import NoWinnerError, nearest
from analysis.output.leaderboard import Leaderboard, LeaderboardRow
from analysis.records.locate import DamagedError, fetch_checkpoint
from analysis.records.sweep import Sweep, Trial
from trainables.config.sections import ModelConfig
from trainables.errors import UserError
from trainables.models.pretrained import resolve_again
from trainables.storage.checksums import sha256_of
from trainables.storage.layout import MANIFEST_FILE


@dataclass(frozen=True)
class Chosen:
    """A checkpoint on a leaderboard.

    Attributes:
        row: Its trial's row.
        checkpoint: Its own entry in that row's `checkpoints`.
        retrained: Whether it learnt the selecting held-out items too (`winner.retrain`): only sealed areas score it.
    """

    row: LeaderboardRow
    checkpoint: dict[str, Any]
    retrained: bool = False

    @property
    def trial_id(self) -> str:
        return str(self.row["trial_id"])

    @property
    def step(self) -> int:
        """Optimizer steps done at the checkpoint."""
        return int(self.checkpoint["step"])


@dataclass(frozen=True)
class BaseModel:
    """The sweep's base model."""

    folder: Path  # the model on this machine
    name: str  # the name to load it by elsewhere: a hub id, else the folder
    revision: str | None  # the hub's commit or branch; None for a folder
    trust_remote_code: bool  # whether the sweep's config allows code that comes with the model to run
    quantized: bool = False  # whether its trials were trained on its weights in 4 bits (`model.quantize`)


def choose(board: Leaderboard, trial_id: str | None, step: int | None, trials: Sequence[Trial]) -> Chosen:
    """Picks a checkpoint.

    Args:
        board: The sweep's leaderboard.
        trial_id: Trial; None for the leaderboard's winner.
        step: Step of the checkpoint; None for the trial's best.
        trials: The sweep's trials, which say what is kept.

    Raises:
        NoWinnerError, UserError: As `analysis.export.export.export` does.
    """
    rows = {row["trial_id"]: row for setting in board["rows"] for row in (setting, *setting["replicates"])}
    if retrained := _retrained(board, rows, trial_id):
        return retrained
    if trial_id is not None:
        name = trial_id
    elif board["winner"] is not None:
        name = board["winner"]["trial_id"]
    else:
        remedy = "name a checkpoint with --trial and --step"
        raise NoWinnerError(board["name"], "must have a winner", board["verdict"], remedy)
    if name not in rows:
        raise UserError("--trial", "must be a trial of this sweep", name, nearest(name, rows))
    row = rows[name]
    checkpoints = {checkpoint["step"]: checkpoint for checkpoint in row["checkpoints"]}
    if step is None and row["step"] is None:
        rule = f"must be given, for {name} ({row['state']}) has no rank"
        raise UserError("--step", rule, "nothing", _to_be_had(trials, name))
    wanted = row["step"] if step is None else step
    if wanted not in checkpoints:
        raise UserError("--step", f"must be a checkpoint of {name}", wanted, _to_be_had(trials, name))
    return Chosen(row, checkpoints[wanted])


def _retrained(board: Leaderboard, rows: Mapping[str, LeaderboardRow], trial_id: str | None) -> Chosen | None:
    """The winner's retraining, where it is asked for by name, or exported in place of the winner."""
    found, winner = board.get("retrained"), board["winner"]
    if not found or not winner or (found["worse"] if trial_id is None else trial_id != found["trial_id"]):
        return None
    point = {"step": found["step"], "path": None, "objective": None, "areas": found["sealed"]}
    row: LeaderboardRow = {**rows[winner["trial_id"]], "trial_id": found["trial_id"], "step": found["step"]}
    return Chosen(row, point, retrained=True)


def checkpoint_folder(sweep: Sweep, chosen: Chosen) -> Path:
    """Finds a checkpoint's folder.

    Raises:
        UserError: The folder is gone; the message names the kept checkpoints if the sweep dropped this one.
    """
    name = f"{chosen.trial_id} step {chosen.step}"
    key = f"trials/{chosen.trial_id}/checkpoints/step-{chosen.step}"
    try:
        fetch_checkpoint(sweep.folder, key)
    except DamagedError as error:
        remedy = "export another checkpoint with --trial and --step"
        raise UserError(name, "must be whole", error, remedy) from None
    usual = sweep.folder / key
    written = sweep.folder / (chosen.checkpoint.get("path") or usual)
    for place in (usual, written):  # the path as written is wrong once the sweep's folder was moved
        if place.is_dir():
            return place
    if any(trial.trial_id == chosen.trial_id and chosen.step not in trial.kept_steps for trial in sweep.trials):
        rule, got = "must be a checkpoint that the sweep kept", "one that it dropped (resources.keep_checkpoints)"
        raise UserError(name, rule, got, _to_be_had(sweep.trials, chosen.trial_id))
    remedy = "export where the sweep ran, or name another checkpoint with --step"
    raise UserError(name, "must have a checkpoint folder", f"none at {usual}", remedy)


def _to_be_had(trials: Sequence[Trial], trial_id: str) -> str:
    """The remedy for a step that can't be had: the trial's kept ones; where there is none, other trials'."""
    kept = {trial.trial_id: trial.kept_steps for trial in trials}
    if own := kept.get(trial_id):
        return f"one of {', '.join(map(str, own))}"
    others = [f"--trial {name} --step {step}" for name, steps in kept.items() for step in steps]
    return f"none of {trial_id} is kept; kept are {', '.join(others) or 'none'}"


def base_model(sweep: Sweep) -> BaseModel:
    """Finds the base model as a resumed sweep does: where the manifest says that it was, else by its name.

    Raises:
        UserError: The manifest can't be read, or the model is nowhere.
    """
    path, section = sweep.folder / MANIFEST_FILE, sweep.config.get("model") or {}
    try:
        folder = Path(json.loads(path.read_text(encoding="utf-8"))["model_path"]).absolute()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(str(path), "must name the base model's folder", repr(error), "restore the file") from error
    name, trust = str(section.get("name") or folder), section.get("trust_remote_code") is True
    quantized = bool(section.get("quantize"))
    model = ModelConfig(name=name, revision=section.get("revision"), trust_remote_code=trust)
    try:
        folder = resolve_again(model, folder, Path(".cache") / "models")
    except UserError as error:
        remedy = "restore it, or export from the folder in which the sweep was started"
        got = f"no model at {folder} ({error.rule}, got {error.got})"
        raise UserError(f"{path} model_path", "must be the base model's folder", got, remedy) from None
    if folder.parent.name == "snapshots" and re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        # The hub's cache holds each commit in snapshots/COMMIT: the export pins the one that was trained on.
        return BaseModel(folder, name, folder.name, trust, quantized)
    return BaseModel(folder, str(folder), None, trust, quantized)


def check_base(sweep: Sweep, base: BaseModel) -> None:
    """Checks the base model's weights, config and tokenizer against the manifest's hashes, if it has them.

    Raises:
        UserError: They differ.
    """
    # A merge into another base would pass every comparison with the model loaded from that base, and still be wrong.
    manifest = json.loads((sweep.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    written = {**(manifest.get("model_sha256") or {}), **(manifest.get("model_files_sha256") or {})}
    for name, expected in written.items():
        file = base.folder / name
        if not file.is_file() or sha256_of(file) != expected:
            got = f"another sha256 for {name} than the sweep's manifest.json"
            raise UserError(str(base.folder), "must be the base model of the sweep", got, "restore that model")
