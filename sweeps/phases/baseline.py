"""The base model's scores, before any trial: is fine-tuning needed at all, and what would a gain be?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.lanes.lanes import Lanes, LanesFailedError
from trainables.errors import UserError
from trainables.evaluation import base_losses
from trainables.lane.messages import Work
from trainables.storage.atomic import write_whole
from trainables.storage.layout import BASELINE_FILE, ITEMS_FILE
from trainables.storage.working_copy import WorkingCopy

BASE_LOSSES_CACHE = Path(".cache") / "base_losses"
POLL_SECONDS = 2.0
SAY_EVERY_SECONDS = 15.0

Areas = dict[str, dict[str, Any]]


def score_baseline(sweep: Sweep, lanes: Lanes) -> Areas | None:
    """Has the lanes score the untouched base model, an area a job, and writes `baseline.json`.

    A resumed sweep keeps the scores that it has.

    Returns:
        The summary of each area, or None when the user interrupted.

    Raises:
        LanesFailedError: Lanes can't start, or the base model can't be scored.
    """
    done = sweep.config.folder / BASELINE_FILE
    if done.exists():
        return json.loads(done.read_text(encoding="utf-8"))["areas"]
    names = list(sweep.config.heldout.weights)
    for name in names:
        lanes.submit(_job(name), _work(name))
    started = said = time.monotonic()
    areas: Areas = {}
    while len(areas) < len(names):
        if sweep.interrupt.is_set():
            return None
        lanes.check(lanes.status())
        waiting = next(name for name in names if name not in areas)
        end = lanes.call("poll", _job(waiting), 0, POLL_SECONDS)["end"]
        if end and end["state"] != "complete":
            raise LanesFailedError(f"the base model could not be scored on {waiting}: {end.get('error')}")
        if end:
            areas[waiting] = end["summary"]
            lanes.over({"job_id": _job(waiting), "work": _work(waiting), "attempt": 1, "end": end})
        elif time.monotonic() - said > SAY_EVERY_SECONDS:
            said = time.monotonic()
            sweep.console.print(f"scoring the base model: {len(areas)} of {len(names)} areas, {said - started:.0f} s")
    _write(sweep.copy, areas)
    return areas


def score_base_losses(supervisor: Supervisor) -> None:
    """Has a lane compute the base model's loss on every training sample, which single loss curves are read against.

    Sweeps with the same model and data share them. Nothing is trained without them; a sweep that is to end before that
    leaves them out.

    Raises:
        LanesFailedError: They could not be computed.
    """
    supervisor.run_jobs({"base-losses": {"do": "base_losses", "cache": str(BASE_LOSSES_CACHE.resolve())}})
    supervisor.sweep.copy.fetch(base_losses.FILE)


def is_enough(sweep: Sweep, areas: Areas) -> bool:
    """Whether the base model is so good that no trial is to be trained; said in a line either way.

    Args:
        sweep: `objective.enough` and `objective.when_enough` of its config are read.
        areas: What `score_baseline` gave.

    Raises:
        UserError: No area has the metric.
    """
    enough = sweep.config.objective.enough
    if enough is None:
        return False
    score = mean_score(areas, enough.metric, {enough.area: 1.0} if enough.area else sweep.config.heldout.weights)
    reached = score <= enough.value if enough.metric == "nll" else score >= enough.value
    stops = reached and sweep.config.objective.when_enough == "stop"
    place = f"on {enough.area}" if enough.area else "over all areas"
    verdict = (
        "fine-tuning is not needed; to train all the same: objective.when_enough=continue"
        if stops
        else "enough, but objective.when_enough=continue"
        if reached
        else "not enough: fine-tuning may help"
    )
    line = f"the base model has {enough.metric} {score:.4f} {place}, wanted {enough.value:g}: {verdict}"
    sweep.console.print(line, soft_wrap=True, highlight=False)
    return stops


def mean_score(areas: Areas, metric: str, weights: dict[str, float]) -> float:
    """Mean of a metric over areas, by weight.

    Raises:
        UserError: An area doesn't have it.
    """
    if missing := [name for name in weights if areas[name].get(metric) is None]:
        known = sorted(key for key, value in areas[missing[0]].items() if value is not None and key != "items")
        remedy = f"it has {', '.join(known)}; name one of them, or one area that has yours"
        raise UserError("objective.enough.metric", f"area {missing[0]} must have it", metric, remedy)
    return sum(weight * areas[name][metric] for name, weight in weights.items()) / sum(weights.values())


def _job(area: str) -> str:
    return f"baseline:{area}"


def _work(area: str) -> Work:
    return {"do": "baseline", "area": area}


def _write(copy: WorkingCopy, areas: Areas) -> None:
    """One file of items from the areas' own, then the summary."""
    folder, items = copy.folder, "trials/baseline"
    parts = [f"{items}/{area}.jsonl" for area in areas]
    copy.fetch(*parts)
    write_whole(folder / items / ITEMS_FILE, "".join((folder / part).read_text("utf-8") for part in parts))
    write_whole(folder / BASELINE_FILE, json.dumps({"areas": areas}, indent=2) + "\n")
    copy.push(f"{items}/heldout.jsonl", BASELINE_FILE)
    for part in parts:
        copy.drop(part)
