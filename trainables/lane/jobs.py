"""Jobs of a lane that are not trials: scores of the base model and of checkpoints, and measurements.

They do not depend on Ray. Only rank 0 writes files.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainables.checkpoints import checkpoint
from trainables.config.hyperparameters import with_params
from trainables.evaluation import base_loss_scoring, base_losses, heldout
from trainables.evaluation.base_losses import BaseLosses
from trainables.evaluation.scoring_workers import scoring_workers
from trainables.lane.messages import Work
from trainables.lane.trial_job import Report
from trainables.lane.warm_state import LaneState
from trainables.packing.autotune import measure_slots
from trainables.storage.atomic import write_whole
from trainables.storage.layout import TRIALS_FOLDER
from trainables.training.rehearsal import rehearse


def run_job(lane_state: LaneState, work: Work) -> Report:
    """Do one job that is not a trial; return its end.

    Args:
        lane_state: The warm lane.
        work: `{"do": "baseline", "area"}`, `{"do": "base_losses", "cache"}` (a folder that sweeps share, or None),
            `{"do": "sealed", "area", "trial"}` (its params and checkpoint; None for the base model),
            `{"do": "slots", "asked"}` (a number, or "auto") or `{"do": "rehearsal", "params", "slots"}`.
    """
    match work["do"]:
        case "baseline":
            return score_baseline(lane_state, work["area"])
        case "sealed":
            return score_sealed(lane_state, work["area"], work["trial"])
        case "base_losses":
            return score_base_losses(lane_state, Path(cache) if (cache := work.get("cache")) else None)
        case "slots":
            found = measure_slots(lane_state.base, lane_state.data, lane_state.settings, work["asked"])
            return {"state": "complete", **asdict(found), "speed_up": found.speed_up}
        case "rehearsal":
            return rehearse_longest(lane_state, work["params"], work["slots"])
        case unknown:
            raise ValueError(f"no such job: {unknown}")


def rehearse_longest(lane_state: LaneState, params: dict[str, float], slots: int) -> Report:
    """Train a batch of the longest sample once."""
    base, data, areas, world = lane_state.base, lane_state.data, lane_state.areas, lane_state.world
    found = rehearse(base, data, areas, lane_state.settings, params, slots, world)
    lane_state.recover()
    return {"state": "complete", **asdict(found)}


def score_baseline(lane_state: LaneState, area: str) -> Report:
    """Score the untouched base model on one area; the items go to `trials/baseline/AREA.jsonl`."""
    with_answers = bool({"base", "all"} & set(lane_state.settings.heldout.answers_at))
    scores = lane_state.score(lane_state.base.untouched(), area, with_answers=with_answers)
    if lane_state.world.rank == 0:
        path = Path(lane_state.settings.output_dir) / TRIALS_FOLDER / "baseline" / f"{area}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lane_state.lines(area, 0, scores))
        lane_state.store.upload(f"trials/baseline/{area}.jsonl")
    return {"state": "complete", "area": area, "summary": heldout.summarize(scores)}


def score_sealed(lane_state: LaneState, area: str, trial: dict[str, Any] | None) -> Report:
    """Score the base model, or a trial's checkpoint, on one sealed area; the driver writes the lines."""
    if trial is None:
        scores, step = lane_state.score(lane_state.base.untouched(), area, with_answers=True), 0
    else:
        _, lora = with_params(lane_state.settings.training, lane_state.settings.model.lora, trial["params"])
        model, step = lane_state.base.prepare(lora, seed=0), trial["step"]
        with lane_state.world.all_or_none():
            lane_state.store.fetch_sealed(trial["path"])
            checkpoint.load(model, Path(lane_state.settings.output_dir) / trial["path"])
        scores = lane_state.score(model, area, with_answers=True)
        lane_state.base.restore()
    lines = lane_state.lines(area, step, scores)
    return {"state": "complete", "area": area, "summary": heldout.summarize(scores), "lines": lines}


def score_base_losses(lane_state: LaneState, cache: Path | None) -> Report:
    """Score the untouched base model on every training sample, unless this sweep or another one has.

    The losses go to `cache/base_losses.arrow` in the sweep's folder, and to the folder `cache` that sweeps share.
    """
    settings, folder, rank = lane_state.settings, Path(lane_state.settings.output_dir), lane_state.world.rank
    of = settings.model_path, settings.tokenized, lane_state.base.precision, settings.model.quantize

    def look() -> tuple[str, bool]:
        lane_state.store.fetch_missing(base_losses.FILE)
        key = "" if rank else base_losses.losses_key(*of)
        return key, rank == 0 and base_losses.provide(folder, cache, key) is not None

    # Rank 0 decides for all: other nodes may see another cache, and all must take part in the computation or none.
    key, known = lane_state.world.together(look)[0]
    if not known:
        model, batch_tokens = lane_state.base.untouched(), settings.heldout.batch_tokens
        with scoring_workers(model, lane_state.world) as world:
            nll = base_loss_scoring.compute(model, lane_state.data, world, batch_tokens)
        if rank == 0:
            base_losses.keep(BaseLosses(key, nll), folder, cache)
    if rank == 0:
        lane_state.store.upload(base_losses.FILE)
    return {"state": "complete", "samples": len(lane_state.data), "computed": not known}
