"""One trial on a warm lane: its files, reports and end. `trainables.training.loop` trains it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.async_writer import Pending
from trainables.checkpoints.retention import best_and_last
from trainables.checkpoints.training_state import TrainingState
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation import heldout
from trainables.evaluation.heldout_history import BASELINE_ITEMS, HeldoutEvidence
from trainables.evaluation.objective import Measure, objective
from trainables.lane.area_scores import score_areas
from trainables.lane.messages import Areas, Work
from trainables.lane.trial_files import TrialFiles
from trainables.lane.trial_states import TrialStates
from trainables.lane.warm_state import LaneState
from trainables.storage.layout import CHECKPOINTS_FOLDER, TRIALS_FOLDER
from trainables.tracking.run_facts import best_objective, mean_row, resolved_config
from trainables.tracking.trackers import Trackers
from trainables.training.curve_recorder import StepRecord
from trainables.training.hooks import Hooks, Speed
from trainables.training.trial_run import Outcome, TrialRun

Report = dict[str, Any]
Scores = dict[str, list[heldout.ItemScore]]


class TrialJob:
    """One trial on a warm lane: writes `curve.jsonl`, `heldout.jsonl` and the checkpoints while the loop trains it.

    Args:
        lane_state: The warm lane.
        work: `{"do": "trial", "spec", "baseline", "pause_at"}`; "baseline" has the base model's summary of each area,
            "pause_at" is the fraction of the epoch at which the trial pauses, None or missing for the whole epoch. A
            trial of kind "retrain" also has "keep_at", the fraction at which a checkpoint is written; none is scored.
        report: Called with the trial's reports.
        should_stop: Asked before every step.
        interrupted: As for `Hooks`.
    """

    def __init__(
        self,
        lane_state: LaneState,
        work: Work,
        report: Callable[[Report], None],
        should_stop: Callable[[], bool],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.lane_state, self.report = lane_state, report
        self.spec, self.baseline = TrialSpec.model_validate(work["spec"]), work["baseline"]
        self.retrains = self.spec.kind == "retrain"
        self.measure = Measure(lane_state.settings.metric)
        hooks = Hooks(
            self.on_steps,
            self.on_checkpoint,
            should_stop,
            self.on_kept,
            lane_state.preemption,
            interrupted,
            self.on_speed,
        )
        self.trial_run = TrialRun(
            lane_state.with_heldout_items() if self.retrains else lane_state.data,
            self.spec,
            lane_state.settings.with_checkpoint(work["keep_at"]) if self.retrains else lane_state.settings,
            hooks,
            lane_state.world,
            None if self.retrains else lane_state.base_losses(),
            work.get("pause_at"),
        )
        self.steps = self.trial_run.epoch.steps
        self.writes = lane_state.world.rank == 0
        self.folder = Path(lane_state.settings.output_dir) / TRIALS_FOLDER / self.spec.trial_id
        self.files = TrialFiles(self.folder, writes=self.writes, driver_epoch=lane_state.settings.driver_epoch)
        sharded = lane_state.base.is_sharded and lane_state.base.method == "full"  # adapters are whole on each worker
        self.states = TrialStates(self.folder, lane_state.store, lane_state.world, sharded=sharded)
        self.pending = Pending(lane_state.writer)
        self.checkpoints: list[Report] = []
        self.evidence = HeldoutEvidence()
        self.tracker: Trackers | None = None
        self.began_at_step = 0
        self.evaluation_seconds = 0.0
        self.shown: Report = {}  # the last progress that was reported
        self.started = time.monotonic()
        self.rows_before = lane_state.loop.rows

    def begin(self) -> TrialRun:
        """Start or resume the trial's files and its W&B run; return the run that the loop trains."""
        world = self.lane_state.world
        with world.all_or_none():
            self.lane_state.store.fetch_missing(BASELINE_ITEMS)
            self.states.fetch()
        state = self.states.last({"spec": self.spec.model_dump()})
        with world.all_or_none():
            curve, items = self.files.begin(state.step if state else 0)
            if state:
                self._resume(state, curve, items)
            if self.writes:
                self._track(resumed=state is not None)
        return self.trial_run

    def _track(self, *, resumed: bool) -> None:
        settings = self.lane_state.settings
        self.tracker = Trackers(settings)
        about = resolved_config(settings.model, settings.training, self.spec.params, settings.data_sha256)
        self.tracker.start(self.spec, {**about, "steps": self.steps}, self.measure, settings.statement)
        if not resumed and self.baseline:
            self.tracker.areas(0, self.baseline, None, self._means(self.baseline))

    def end(self, outcome: Outcome) -> Report:
        """The trial's end, for `trials.jsonl`; it may be reported once `pending` is settled."""
        end = self._end(outcome)
        if self.tracker:
            means = [self._means(point["areas"]) for point in self.checkpoints if point["areas"]]
            verdict = {"objective": best_objective(means, self.measure), "findings": len(end["findings"])}
            self.tracker.finish(end["state"], verdict)
        return end

    def failed(self) -> None:
        """Close the W&B run of a trial that ended by an error."""
        if self.tracker:
            self.tracker.finish("failed", {})

    def on_steps(self, records: list[StepRecord]) -> None:
        """Write the curve and report progress, at every flush of the loop."""
        self.pending.check()
        if not self.writes:
            return
        last = records[-1]
        self.files.add_steps(records)
        self.lane_state.store.upload_trial(self.spec.trial_id)
        if self.tracker:
            self.tracker.steps(records)
        now = {"step": last.step, "steps": self.steps, "began_at_step": self.began_at_step}
        self.shown = {"kind": "progress", **now, "loss": last.loss, "lr": last.lr}
        self.report(self.shown)

    def on_speed(self, speed: Speed) -> None:
        """Write how fast the last steps were."""
        if self.writes:
            self.files.add_speed(speed)
            if self.tracker:
                self.tracker.speed(asdict(speed))

    def on_checkpoint(self, step: int, model: nn.Module) -> None:
        """Score a checkpoint on every area, queue its write and report the scores."""
        # A score on items that the trial has learnt would look like any other and mean nothing.
        began = time.monotonic()
        scores = {} if self.retrains else self._scores(step, model)
        self.evaluation_seconds += time.monotonic() - began
        areas = {area: heldout.summarize(area_scores) for area, area_scores in scores.items()}
        self._write_checkpoint(step, model, areas, scores)
        with self.lane_state.world.all_or_none():
            if self.writes and areas:
                self._report_scores(step, areas)

    def _means(self, areas: Areas) -> dict[str, float]:
        return mean_row(areas, self.lane_state.settings.heldout.weights, self.measure)

    def _scores(self, step: int, model: nn.Module) -> Scores:
        answers_at = set(self.lane_state.settings.heldout.answers_at)
        with_answers = "all" in answers_at or ("last" in answers_at and step == self.steps)
        return score_areas(self.lane_state, model, with_answers=with_answers, report=self._report_activity)

    def _report_activity(self, now: Report) -> None:
        if self.shown:  # a worker that does not write has reported no step
            self.report({**self.shown, **now})

    def _write_checkpoint(self, step: int, model: nn.Module, areas: Areas, scores: Scores) -> None:
        """Queue the write of a checkpoint, after its items."""
        saved, room = checkpoint.weights_of(model), None
        with self.lane_state.world.all_or_none():
            if self.writes:
                if areas:
                    self.evidence.add(step, scores)
                    self.files.add_items(self.lane_state.lines(area, step, found) for area, found in scores.items())
                self.lane_state.store.upload_trial(self.spec.trial_id)
                # At most one checkpoint is being written: a worker that is killed loses less than two intervals.
                self.pending.settle()
                room = self.pending.reserve(saved.tensors)
        if room is None:
            checkpoint.lend_weights(saved.tensors)
            return
        path = self.folder / CHECKPOINTS_FOLDER / f"step-{step}"
        self.pending.submit(saved.tensors, lambda tensors: self._save(saved, tensors, path, step), room)
        value = objective(areas, self.lane_state.settings.heldout.weights) if areas else None
        relative = str(path.relative_to(self.lane_state.settings.output_dir))
        self.checkpoints.append({"step": step, "path": relative, "areas": areas, "objective": value})

    def _report_scores(self, step: int, areas: Areas) -> None:
        if self.tracker:
            self.tracker.areas(step, areas, self.baseline, self._means(areas))
        place = {"seq": len(self.checkpoints), "step": step, "fraction": step / self.steps}
        self.report({"kind": "areas", **place, "areas": areas, "objective": self.checkpoints[-1]["objective"]})

    def on_kept(self, step: int, learnt: dict[str, torch.Tensor]) -> None:
        """Queue the write of a training state, after that of its checkpoint."""
        # All workers or none queue one: of a sharded state their writers wait for each other.
        with self.lane_state.world.all_or_none():
            room = self.pending.reserve(learnt) if self.states.writes else None
        if room is None:
            return
        points = list(self.checkpoints)
        meta = {"spec": self.spec.model_dump(), "checkpoints": points, "seconds": self._seconds()}

        def write(tensors: training_state.Tensors) -> None:
            self.files.sync()  # a state on disk must not be ahead of its curve
            self.states.save(TrainingState(step, tensors, meta))
            # Only now: a trial that resumes from an earlier state needs the checkpoint that was best by then.
            settings = self.lane_state.settings
            if self.writes and not self.retrains and not settings.keep_all_checkpoints:
                deciding = self.measure.by_step({"checkpoints": points}, settings.heldout.weights)
                self.lane_state.store.keep_checkpoints(self.spec.trial_id, best_and_last(deciding))

        self.pending.submit(learnt, write, room)

    def _save(self, saved: checkpoint.Weights, tensors: checkpoint.Tensors, path: Path, step: int) -> None:
        meta = {"trial_id": self.spec.trial_id, "step": step, "params": self.spec.params}
        checkpoint.save_weights(saved, tensors, path, meta)
        self.lane_state.store.upload_sealed(path)

    def _resume(self, state: TrainingState, curve: list[Report], items: list[Report]) -> None:
        self.trial_run.resume_from(state.step, state.tensors, curve)
        self.trial_run.worker_seconds, before, *evaluating = state.meta["seconds"]
        self.evaluation_seconds = sum(evaluating)  # none in states of earlier versions
        self.started -= before
        self.checkpoints = state.meta["checkpoints"]
        self.evidence.replay(items)
        self.began_at_step = state.step
        text = f"{self.spec.trial_id} goes on from step {state.step} of {self.steps}"
        self.report({"kind": "notice", "level": "info", "text": text})

    def _seconds(self) -> tuple[float, float, float]:
        # Worker seconds, wall seconds, and those in evaluation, of all attempts whose steps count.
        return self.trial_run.worker_seconds, time.monotonic() - self.started, self.evaluation_seconds

    def _padding_share(self) -> float | None:
        # Share of the rows computed during the trial that held no token; None for trials that can't be packed.
        rows, tokens = (now - then for now, then in zip(self.lane_state.loop.rows, self.rows_before, strict=True))
        return 1.0 - tokens / rows if rows else None

    def _end(self, outcome: Outcome) -> Report:
        findings = list(outcome.findings)
        if outcome.state == "complete" and not self.retrains:
            weights, folder = self.lane_state.settings.heldout.weights, Path(self.lane_state.settings.output_dir)
            findings += self.evidence.findings(outcome.monitor, self.lane_state.areas, weights, folder)
        return {
            "state": outcome.state,
            "spec": self.spec.model_dump(),
            "precision": self.lane_state.base.precision,
            "steps": outcome.steps,
            "steps_planned": outcome.steps_planned,
            "samples_seen": outcome.samples_seen,
            "went_on_from_step": self.began_at_step or None,
            "checkpoints": self.checkpoints,
            "findings": findings,
            "cost": {
                "device_seconds": outcome.worker_seconds * self.lane_state.world.size,
                "wall_seconds": self._seconds()[1],
                "evaluation_seconds": self.evaluation_seconds * self.lane_state.world.size,
                "padding_share": self._padding_share(),
            },
            "error": None,
        }
