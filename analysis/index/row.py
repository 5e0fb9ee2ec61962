"""One sweep's row of the index, from its config, manifest, trials and leaderboard.

Only what the row shows is read, by models that leave out all other keys: so sweeps of earlier versions have rows, too.
"""

from __future__ import annotations

import json
import math
import os
import socket
from calendar import timegm
from collections.abc import Mapping
from time import strptime
from typing import Annotated, Any

import psutil
from pydantic import AllowInfNan, BaseModel, BeforeValidator, Field, ValidationError

from analysis.records.bounded_yaml import load_bounded
from trainables.errors import UserError
from trainables.evaluation.objective import NLL, Measure
from trainables.storage.layout import LEADERBOARD_FILE, MANIFEST_FILE, SWEEP_FILE, TRIALS_FILE

FILES = (SWEEP_FILE, MANIFEST_FILE, TRIALS_FILE, LEADERBOARD_FILE)  # a row changes only when one of these does
ENDS = ("complete", "budget_spent", "not_needed", "interrupted", "failed")  # written by the driver
STATES = (*ENDS, "running", "killed", "planned", "damaged")
STAMP = "%Y-%m-%dT%H:%M:%SZ"  # the manifest's times

Row = dict[str, Any]
Number = Annotated[float, AllowInfNan(False)]


class _Objective(BaseModel):
    statement: str = ""
    metric: str = NLL


class _Named(BaseModel):
    name: str = ""


class _Data(BaseModel):
    train: str = ""


class _Resources(BaseModel):
    price_per_device_hour: Number | None = None


class _Parent(BaseModel):
    name: str | None = None
    id: str | None = None
    folder: str | None = None


class _Config(BaseModel):
    # Configs of earlier versions have a text where newer ones have a section.
    objective: Annotated[_Objective, BeforeValidator(lambda v: {"statement": v} if isinstance(v, str) else v)] = (
        _Objective()
    )
    model: _Named = _Named()
    data: _Data = _Data()
    parent: str | None = None
    resources: _Resources = _Resources()


class _Manifest(BaseModel):
    state: str = ""
    sweep_id: str | None = None
    started: str | None = None
    ended: str | None = None
    parent: _Parent | None = None


class _Pair(BaseModel):
    trial_id: str
    step: int


class _BoardRow(BaseModel):
    params: dict[str, Any] = {}
    objective: Number | None = None
    gain: Number | None = None
    gain_interval: tuple[Number, Number] | None = None


class _Gain(BaseModel):
    corrected: Number | None = None
    corrected_interval: tuple[Number, Number] | None = None


class _Rails(BaseModel):
    winner: str | None = None


class _Board(BaseModel):
    winner: _Pair | None = None
    winner_gain: _Gain | None = None
    tied: list[_Pair] = []
    rows: list[_BoardRow] = []
    guard_rails: _Rails | None = None


class _Cost(BaseModel):
    # Whatever lies beyond is no cost: it would make the sum infinite, or a user's past use less than nothing.
    device_seconds: Annotated[float, Field(ge=0, le=1e12)] | None = None


class _Trial(BaseModel):
    cost: _Cost = _Cost()


def make_row(name: str, files: Mapping[str, bytes]) -> Row:
    """Makes the row of a sweep.

    Args:
        name: Its folder's.
        files: Content of those of `FILES` that there are.

    Returns:
        JSON values: `name`, `state`, `id`, `parent` (text), `model`, `data`, `objective` (the statement), `metric`,
        `started`, `ended`, `winner` (`trial_id`, `step`), `peak_lr`, `score` (in the metric), `gain` and
        `gain_interval` (over the base model, corrected for selection, in the metric's unit), `tied` (settings),
        `trials`, `device_seconds`, `price` (of a device-hour), `verdict` (five words at most) and `problem` (why a row
        is `damaged`).
    """
    try:
        return _row(name, files)
    except UserError as error:
        return damaged(name, str(error))


def damaged(name: str, problem: str) -> Row:
    """The row of a sweep that can't be read, and why."""
    known = dict.fromkeys(("id", "parent", "started", "ended", "winner", "peak_lr", "score", "gain", "gain_interval"))
    texts = {"model": "", "data": "", "objective": "", "metric": NLL}
    return {
        "name": name,
        "state": "damaged",
        **known,
        **texts,
        "tied": 0,
        "trials": 0,
        "device_seconds": 0.0,
        "price": None,
        "verdict": "its files can't be read",
        "problem": problem,
    }


def _row(name: str, files: Mapping[str, bytes]) -> Row:
    if SWEEP_FILE not in files:
        if MANIFEST_FILE in files or TRIALS_FILE in files:
            raise UserError(name, f"must hold {SWEEP_FILE}", "a folder without it", "see python -m sweeps.rebuild")
        return {**damaged(name, ""), "state": "planned", "verdict": "planned, not started", "problem": None}
    config = _read(_Config, SWEEP_FILE, files)
    manifest, board = _read(_Manifest, MANIFEST_FILE, files), _read(_Board, LEADERBOARD_FILE, files)
    costs = [trial.cost.device_seconds or 0.0 for trial in _trials(files.get(TRIALS_FILE, b""))]
    state = manifest.state or "running"  # it has a config: a driver has begun
    if state not in (*ENDS, "running"):
        raise UserError(MANIFEST_FILE, f"state must be running or one of {', '.join(ENDS)}", state, "restore the file")
    parent = manifest.parent
    best = board.rows[0] if board.winner and board.rows else None
    gain = board.winner_gain or (best and _Gain(corrected=best.gain, corrected_interval=best.gain_interval))
    rate, measure = (best.params.get("peak_lr") if best else None), Measure(config.objective.metric)
    return {
        "name": name,
        "state": state,
        "id": manifest.sweep_id,
        "parent": (parent.name or parent.folder) if parent else config.parent,
        "started": manifest.started,
        "ended": manifest.ended,
        "winner": board.winner.model_dump() if board.winner else None,
        "peak_lr": rate if _is_number(rate) else None,
        "score": measure.turned(best.objective) if best and best.objective is not None else None,
        "gain": gain.corrected if gain else None,
        "gain_interval": list(gain.corrected_interval) if gain and gain.corrected_interval else None,
        "model": config.model.name,
        "data": config.data.train,
        "objective": config.objective.statement,
        "metric": config.objective.metric,
        "tied": len(board.tied),
        "trials": len(costs),
        "device_seconds": round(sum(costs), 1),
        "price": config.resources.price_per_device_hour,
        "verdict": _verdict(state, board, gain),
        "problem": None,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read(model: Any, name: str, files: Mapping[str, bytes]) -> Any:
    if name not in files:
        return model()
    try:
        if name.endswith(".json"):
            return model.model_validate_json(files[name])
        return model.model_validate(load_bounded(files[name]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (name, *first["loc"])))
        got = repr(first["input"])[:80]
        raise UserError(where, first["msg"], got, "restore the file that the sweep wrote") from None
    except ValueError as error:
        raise UserError(name, "must be YAML in UTF-8", str(error)[:200], "restore the file") from None


def _trials(text: bytes) -> list[_Trial]:
    # The last line of a trial counts, as for the leaderboard; a line that a killed writer cut off does not.
    trials: dict[str, _Trial] = {}
    for line in text.splitlines():
        try:
            record = json.loads(line)
            trials[str(record["trial_id"])] = _Trial.model_validate(record)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return list(trials.values())


def _verdict(state: str, board: _Board, gain: _Gain | None) -> str:
    """The outcome in five words at most; the leaderboard's own verdict has the figures."""
    if board.winner is None:
        words = {"not_needed": "base model is good enough", "running": "running, nothing ranked yet"}
        return words.get(state, "no trial could be ranked")
    if board.guard_rails and board.guard_rails.winner == "fail":
        return "winner fails its guard-rails"
    if gain is None or gain.corrected is None:
        return "base model was not scored"
    low, high = gain.corrected_interval or (None, None)
    if low is None or high is None or low <= 0 <= high:
        return "not proven better than base"
    if high < 0:
        return "worse than the base model"
    return f"better than base, {len(board.tied)} tied" if board.tied else "better than base, clear winner"


def state_now(state: str, lock: bytes | None) -> str:
    """The state of a sweep whose manifest says `running`: `killed` where its driver is gone.

    Args:
        state: The manifest's.
        lock: Content of `driver.lock`, which names the driver's process; None where there is none.

    The lock itself is left alone: a driver that begins at this moment would find it taken.
    """
    if state != "running" or lock is None:
        return state
    try:
        holder = json.loads(lock)
        pid, since = int(holder["pid"]), timegm(strptime(holder["since"], STAMP))
        if holder["host"] != socket.gethostname():
            return state  # of another machine: not known
        # A process that began later has only inherited the number.
        return state if pid == os.getpid() or psutil.Process(pid).create_time() < since + 2 else "killed"
    except psutil.NoSuchProcess:
        return "killed"
    except (ValueError, KeyError, TypeError, psutil.AccessDenied):
        return state
