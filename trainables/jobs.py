"""What a lane does for one job: score the base model, on an area or the training set, or train a trial.

Knows neither Ray nor how jobs arrive; `trainables.lane` brings them. Only rank 0 writes files and reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from trainables import base_losses, checkpoint, heldout
from trainables.base_losses import BaseLosses
from trainables.bench import Bench
from trainables.config import TrialSpec, with_params
from trainables.curve import StepRecord
from trainables.epoch import plan_epoch
from trainables.heldout_evidence import HeldoutEvidence
from trainables.loop import Hooks, Outcome, train
from trainables.strict_json import json_line
from trainables.tracking import Tracker

Report = dict[str, Any]
Summary = dict[str, Any]


def run_job(
    bench: Bench, work: dict[str, Any], report: Callable[[Report], None], should_stop: Callable[[], bool]
) -> Report:
    """Does one job.

    Args:
        bench: The warm lane.
        work: `{"do": "baseline", "area"}`, `{"do": "base_losses", "cache"}` (a folder that sweeps share, or None),
            `{"do": "sealed", "area", "trial"}` (its params and checkpoint; None for the base model) or
            `{"do": "trial", "spec", "baseline"}`.
        report: Called with "progress" and "areas" reports.
        should_stop: Asked before every step.

    Returns:
        How the job ended: for a trial what its line in `trials.jsonl` needs.
    """
    if work["do"] == "baseline":
        return score_baseline(bench, work["area"])
    if work["do"] == "sealed":
        return score_sealed(bench, work["area"], work["trial"])
    if work["do"] == "base_losses":
        return score_base_losses(bench, Path(work["cache"]) if work.get("cache") else None)
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


def score_sealed(bench: Bench, area: str, trial: dict[str, Any] | None) -> Report:
    """Scores the base model, or a trial's checkpoint, on one sealed area; the driver writes the lines."""
    if trial is None:
        scores, step = bench.score(bench.base.untouched(), area, with_answers=True), 0
    else:
        _, lora = with_params(bench.settings.training, bench.settings.model.lora, trial["params"])
        model, step = bench.base.prepare(lora, seed=0), trial["step"]
        checkpoint.load(model, Path(bench.settings.output_dir) / trial["path"])
        scores = bench.score(model, area, with_answers=True)
        bench.base.restore()
    lines = bench.lines(area, step, scores)
    return {"state": "complete", "area": area, "summary": heldout.summarise(scores), "lines": lines}


def score_base_losses(bench: Bench, cache: Path | None) -> Report:
    """Scores the untouched base model on every training sample, unless that was done before.

    The losses go to `cache/base_losses.arrow` in the sweep's folder, and into the folder that sweeps share.
    """
    settings, folder, rank = bench.settings, Path(bench.settings.output_dir), bench.world.rank
    key = "" if rank else base_losses.losses_key(settings.model_path, settings.tokenised, bench.base.precision)
    known = bench.world.any(rank == 0 and base_losses.provide(folder, cache, key) is not None)
    if not known:
        model, batch_tokens = bench.base.untouched(), settings.heldout.batch_tokens
        nll = base_losses.compute(model, bench.data, bench.world, batch_tokens)
        if rank == 0:
            base_losses.keep(BaseLosses(key, nll), folder, cache)
    return {"state": "complete", "samples": len(bench.data), "computed": not known}


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
        self.should_stop = should_stop
        training, _ = with_params(bench.settings.training, bench.settings.model.lora, spec.params)
        self.steps = plan_epoch(len(bench.data), training, bench.world.size).steps
        self.writes = bench.world.rank == 0
        self.folder = Path(bench.settings.output_dir) / "trials" / spec.trial_id
        self.checkpoints: list[Report] = []
        self.evidence = HeldoutEvidence()
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
            outcome = train(
                self.bench.base, self.bench.data, self.spec, settings, hooks, self.bench.world, self.bench.base_losses()
            )
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
            curve.writelines(json_line(asdict(record)) for record in records)
        if self.tracker:
            self.tracker.steps(records)
        last = records[-1]
        self.report({"kind": "progress", "step": last.step, "steps": self.steps, "loss": last.loss, "lr": last.lr})

    def on_checkpoint(self, step: int, model: nn.Module) -> None:
        """Scores a checkpoint on every area and writes it."""
        answers_at = set(self.bench.settings.heldout.answers_at)
        with_answers = "all" in answers_at or ("last" in answers_at and step == self.steps)
        scores = {
            area: self.bench.score(model, area, with_answers=with_answers)
            for area in self.bench.settings.heldout.weights
        }
        if not self.writes:
            return
        self.evidence.add(step, scores)
        with (self.folder / "heldout.jsonl").open("a") as items:
            items.writelines(self.bench.lines(area, step, area_scores) for area, area_scores in scores.items())
        areas = {area: heldout.summarise(area_scores) for area, area_scores in scores.items()}
        weights = self.bench.settings.heldout.weights
        objective = heldout.objective(areas, weights)
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
        findings = list(outcome.findings)
        if outcome.state == "complete":
            weights, folder = self.bench.settings.heldout.weights, Path(self.bench.settings.output_dir)
            findings += self.evidence.findings(outcome.watch, self.bench.areas, weights, folder)
        return {
            "state": outcome.state,
            "spec": self.spec.model_dump(),
            "steps": outcome.steps,
            "steps_planned": outcome.steps_planned,
            "samples_seen": outcome.samples_seen,
            "checkpoints": self.checkpoints,
            "findings": findings,
            "cost": {"device_seconds": wall * self.bench.world.size, "wall_seconds": wall},
            "error": None,
        }
