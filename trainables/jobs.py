"""What a lane does for one job: score the base model on an area, or train a trial and write its evidence.

Knows neither Ray nor how jobs arrive; `trainables.lane` brings them. Only rank 0 writes files and reports.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables import checkpoint, heldout
from trainables.config import LaneConfig, TrialSpec, with_params
from trainables.curve import StepRecord
from trainables.data import TokenisedSet
from trainables.epoch import plan_epoch
from trainables.heldout import ItemScore
from trainables.loop import Hooks, Outcome, train
from trainables.model import Base, load_base
from trainables.optimise import World
from trainables.scorers import load_scorers
from trainables.tracking import Tracker

Report = dict[str, Any]
Summary = dict[str, Any]


@dataclass
class Bench:
    """Everything that stays warm between the jobs of a lane."""

    settings: LaneConfig
    world: World
    base: Base
    data: TokenisedSet
    areas: dict[str, TokenisedSet]
    scorers: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, settings: LaneConfig, device: torch.device, world: World) -> Bench:
        """Loads the base model, the tokenised data and the scorers, once for all jobs."""
        return cls(
            settings=settings,
            world=world,
            base=load_base(
                settings.model_path,
                settings.model,
                settings.training.precision,
                device,
                gradient_checkpointing=settings.training.gradient_checkpointing,
            ),
            data=TokenisedSet(settings.tokenised),
            areas={name: TokenisedSet(path) for name, path in settings.tokenised_areas.items()},
            scorers={name: load_scorers(area.scorers) for name, area in settings.heldout.areas.items()},
        )

    def score(self, model: nn.Module, area: str, *, with_answers: bool) -> list[ItemScore]:
        """Every item's loss, and answer where asked for, of one area."""
        held = self.settings.heldout
        return heldout.score_area(
            model,
            self.base.tokenizer,
            self.areas[area],
            area,
            held.areas[area],
            self.scorers[area],
            with_answers=with_answers,
            batch_tokens=held.batch_tokens,
            answer_batch_size=held.answer_batch_size,
        )

    def lines(self, area: str, step: int, scores: list[ItemScore]) -> str:
        """The scores as lines of `heldout.jsonl`; items of one `group` share a context."""
        groups = (self.areas[area].group(index) for index in range(len(scores)))
        return "".join(
            _line({"step": step, **asdict(score), "group": group}) for score, group in zip(scores, groups, strict=True)
        )

    def recover(self) -> None:
        """Puts the bench back in order after a job that failed."""
        self.base.restore()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_job(
    bench: Bench, work: dict[str, Any], report: Callable[[Report], None], should_stop: Callable[[], bool]
) -> Report:
    """Does one job.

    Args:
        bench: The warm lane.
        work: `{"do": "baseline", "area"}` or `{"do": "trial", "spec", "baseline"}`.
        report: Called with "progress" and "areas" reports.
        should_stop: Asked before every step.

    Returns:
        How the job ended: for a trial what its line in `trials.jsonl` needs.
    """
    if work["do"] == "baseline":
        return score_baseline(bench, work["area"])
    return TrialJob(bench, TrialSpec.model_validate(work["spec"]), work["baseline"], report, should_stop).run()


def score_baseline(bench: Bench, area: str) -> Report:
    """Scores the untouched base model on one area; the items go to `trials/baseline/AREA.jsonl`."""
    with_answers = bool({"base", "all"} & set(bench.settings.heldout.answers_at))
    scores = bench.score(bench.base.untouched(), area, with_answers=with_answers)
    if bench.world.rank == 0:
        path = Path(bench.settings.output_dir) / "trials" / "baseline" / f"{area}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(bench.lines(area, 0, scores), encoding="utf-8")
    return {"state": "complete", "area": area, "summary": heldout.summarise(scores)}


class TrialJob:
    """One trial on a warm lane: trains it, and writes `curve.jsonl`, `heldout.jsonl` and the checkpoints.

    Args:
        bench: The warm lane.
        spec: The trial.
        baseline: The base model's summary of each area.
        report: Where progress goes.
        should_stop: Asked before every step.
    """

    def __init__(
        self,
        bench: Bench,
        spec: TrialSpec,
        baseline: dict[str, Summary],
        report: Callable[[Report], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.bench, self.spec, self.baseline, self.report = bench, spec, baseline, report
        self.should_stop, self.weights = should_stop, bench.settings.heldout.weights
        training, _ = with_params(bench.settings.training, bench.settings.model.lora, spec.params)
        self.steps = plan_epoch(len(bench.data), training, bench.world.size).steps
        self.writes = bench.world.rank == 0
        self.folder = Path(bench.settings.output_dir) / "trials" / spec.trial_id
        self.checkpoints: list[Report] = []
        self.started = time.monotonic()

    def run(self) -> Report:
        """Trains the epoch; returns the trial's end for `trials.jsonl`."""
        settings = self.bench.settings
        self._fresh_files()
        self.tracker = Tracker(settings.wandb, settings.sweep, settings.output_dir) if self.writes else None
        if self.tracker:
            self.tracker.start(self.spec, {"model": settings.model.name, "method": settings.model.method})
        hooks = Hooks(steps=self.on_steps, checkpoint=self.on_checkpoint, should_stop=self.should_stop)
        try:
            outcome = train(self.bench.base, self.bench.data, self.spec, settings, hooks, self.bench.world)
        except BaseException:
            if self.tracker:
                self.tracker.finish("failed", {})
            raise
        finally:
            self.bench.base.restore()
        end = self._end(outcome)
        if self.tracker:
            best = min((c["objective"] for c in self.checkpoints), default=None)
            self.tracker.finish(end["state"], {"objective": best, "findings": len(end["findings"])})
        return end

    def on_steps(self, records: list[StepRecord]) -> None:
        """Writes the curve and tells of progress, at every flush of the loop."""
        if not self.writes:
            return
        with (self.folder / "curve.jsonl").open("a") as curve:
            curve.writelines(_line(asdict(record)) for record in records)
        if self.tracker:
            self.tracker.steps(records)
        last = records[-1]
        self.report({"kind": "progress", "step": last.step, "steps": self.steps, "loss": last.loss, "lr": last.lr})

    def on_checkpoint(self, step: int, model: nn.Module) -> None:
        """Scores a checkpoint on every area and writes it."""
        answers_at = set(self.bench.settings.heldout.answers_at)
        with_answers = "all" in answers_at or ("last" in answers_at and step == self.steps)
        scores = {area: self.bench.score(model, area, with_answers=with_answers) for area in self.weights}
        if not self.writes:
            return
        with (self.folder / "heldout.jsonl").open("a") as items:
            items.writelines(self.bench.lines(area, step, area_scores) for area, area_scores in scores.items())
        areas = {area: heldout.summarise(area_scores) for area, area_scores in scores.items()}
        objective = heldout.objective(areas, self.weights)
        path = self.folder / "checkpoints" / f"step-{step}"
        checkpoint.save(model, path, {"trial_id": self.spec.trial_id, "step": step, "params": self.spec.params})
        relative = str(path.relative_to(self.bench.settings.output_dir))
        self.checkpoints.append({"step": step, "path": relative, "areas": areas, "objective": objective})
        if self.tracker:
            self.tracker.areas(step, areas, self.baseline)
        self.report(
            {
                "kind": "areas",
                "seq": len(self.checkpoints),
                "step": step,
                "fraction": step / self.steps,
                "areas": areas,
                "objective": objective,
            }
        )

    def _fresh_files(self) -> None:
        """Each attempt starts its files anew, so that they hold one curve."""
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("curve.jsonl", "heldout.jsonl"):
                (self.folder / name).write_text("")

    def _end(self, outcome: Outcome) -> Report:
        wall = time.monotonic() - self.started
        return {
            "state": outcome.state,
            "spec": self.spec.model_dump(),
            "steps": outcome.steps,
            "steps_planned": outcome.steps_planned,
            "samples_seen": outcome.samples_seen,
            "checkpoints": self.checkpoints,
            "findings": outcome.findings,
            "cost": {"device_seconds": wall * self.bench.world.size, "wall_seconds": wall},
            "error": None,
        }


def _line(record: dict[str, Any]) -> str:
    """One line of strict JSON: a loss that is not finite becomes null, for JSON has no word for it."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
