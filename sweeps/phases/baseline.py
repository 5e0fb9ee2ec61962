"""The base model's scores, before any trial: is fine-tuning needed at all, and what would a gain be?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from analysis.output.end_screen import duration
from analysis.output.formats import percent
from sweeps.driver.context import Sweep
from sweeps.driver.supervisor import Supervisor
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import write_baseline
from sweeps.ledger.trial_record import Areas
from trainables.errors import UserError
from trainables.evaluation.objective import NLL
from trainables.storage.atomic import write_whole
from trainables.storage.layout import BASELINE_FILE, BASELINE_TRIAL, ITEMS_FILE, trial_file

BASE_LOSSES_CACHE = Path(".cache") / "base_losses"


def score_baseline(sweep: Sweep, supervisor: Supervisor) -> Areas | None:
    """Scores the untouched base model on the lanes, an area a job, and writes `baseline.json`.

    A resumed sweep keeps its scores.

    Returns:
        The summary of each area, or None if the sweep is to end first.

    Raises:
        LanesFailedError: Lanes can't start, or the base model can't be scored.
    """
    done = sweep.config.folder / BASELINE_FILE
    if done.exists():
        areas: Areas = json.loads(done.read_text(encoding="utf-8"))["areas"]
        _show(sweep, supervisor, areas)
        return areas
    names = list(sweep.config.heldout.weights)
    started = time.monotonic()

    def say(_scored: int) -> None:
        if supervisor.lanes.up:
            ends = {name: supervisor.recorder.ends.get(f"baseline:{name}") for name in names}
            losses = {name: end["summary"][NLL] for name, end in ends.items() if end}
            items = {name: sweep.plan.areas[name].samples for name in names}
            supervisor.progress.note(under_way(losses, items, time.monotonic() - started))

    ends = supervisor.run_jobs(
        {f"baseline:{name}": {"do": "baseline", "area": name} for name in names},
        on_wait=say,
        failure=lambda job_id: f"the base model could not be scored on {job_id.removeprefix('baseline:')}",
    )
    if ends is None:
        return None
    areas = {name: ends[f"baseline:{name}"]["summary"] for name in names}
    _write(sweep.store, areas)
    _show(sweep, supervisor, areas)
    return areas


def under_way(losses: Mapping[str, float], items: Mapping[str, int], seconds: float) -> str:
    """How far the base model's evaluation is: `evaluating the base model: 1 of 2 areas (banking 7.92), 20 s, …`.

    Args:
        losses: Held-out loss of the areas that are done.
        items: Number of items of all areas.
        seconds: Time so far, of which the rest is forecast by items.
    """
    text = f"evaluating the base model: {len(losses)} of {len(items)} areas"
    if losses:
        text += f" ({', '.join(f'{name} {loss:.2f}' for name, loss in losses.items())})"
        done = sum(items[name] for name in losses)
        left = seconds * (sum(items.values()) - done) / done
        return f"{text}, {duration(seconds)}, about {duration(left)} left"
    return f"{text}, {duration(seconds)}"


def _show(sweep: Sweep, supervisor: Supervisor, areas: Areas) -> None:
    weights = sweep.config.heldout.weights
    base = sweep.config.objective.measure.objective(areas, weights)
    supervisor.progress.base = base if math.isfinite(base) else None
    supervisor.say(base_words(areas, weights))


def base_words(areas: Areas, weights: dict[str, float]) -> str:
    """The base model's scores in a line: `base model: held-out loss 5.72 (banking 7.92, svamp 3.51), …`."""
    by_area = ", ".join(f"{name} {areas[name]['nll']:.2f}" for name in weights)
    text = f"base model: held-out loss {mean_score(areas, NLL, weights):.2f} ({by_area})"
    right = [areas[name].get("exact_match") for name in weights]
    return text if None in right else f"{text}, exact match {percent(mean_score(areas, 'exact_match', weights))}"


def score_base_losses(supervisor: Supervisor) -> None:
    """Computes the base model's loss on every training sample, the reference for single loss curves.

    Raises:
        LanesFailedError: They could not be computed.
    """
    # The cache is shared by sweeps with the same model and data. A sweep that is to end leaves the losses out.
    supervisor.run_jobs({"base-losses": {"do": "base_losses", "cache": str(BASE_LOSSES_CACHE.resolve())}})
    supervisor.sweep.store.fetch_base_losses()


def is_enough(sweep: Sweep, areas: Areas) -> bool:
    """Whether the base model is good enough to train no trial, by `config.objective`; prints the verdict.

    Raises:
        UserError: No area has the metric.
    """
    enough = sweep.config.objective.enough
    if enough is None:
        return False
    score = mean_score(areas, enough.metric, {enough.area: 1.0} if enough.area else sweep.config.heldout.weights)
    # Every metric but the NLL is better when it is higher.
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
    """Averages a metric over areas by weight.

    Raises:
        UserError: An area doesn't have it.
    """
    if missing := [name for name in weights if areas[name].get(metric) is None]:
        known = sorted(key for key, value in areas[missing[0]].items() if value is not None and key != "items")
        remedy = f"it has {', '.join(known)}; name one of them, or one area that has yours"
        raise UserError("objective.enough.metric", f"area {missing[0]} must have it", metric, remedy)
    return sum(weight * areas[name][metric] for name, weight in weights.items()) / sum(weights.values())


def _write(store: SweepStore, areas: Areas) -> None:
    parts = store.fetch_baseline_items(areas)
    items = "".join(part.read_text("utf-8") for part in parts)
    write_whole(store.folder / trial_file(BASELINE_TRIAL, ITEMS_FILE), items)
    # The summary goes last: with it a resumed sweep takes the base model as scored.
    write_baseline(store.folder, areas)
    store.publish_baseline(areas)
