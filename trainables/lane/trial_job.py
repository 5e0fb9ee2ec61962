"""One trial on a warm lane: what it writes, reports and hands back. `trainables.training.loop` trains it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
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
from trainables.evaluation.objective import objective
from trainables.lane.trial_files import TrialFiles
from trainables.lane.warm_state import LaneState
from trainables.storage.layout import CHECKPOINTS_FOLDER, STATES_FOLDER, TRIALS_FOLDER, trial_file
from trainables.tracking.wandb_run import Tracker
from trainables.training.curve_recorder import StepRecord
from trainables.training.trial_run import Hooks, Outcome, TrialRun

Report = dict[str, Any]
Summary = dict[str, Any]


class TrialJob:
    """One trial on a warm lane: writes `curve.jsonl`, `heldout.jsonl` and the checkpoints while the loop trains it.

    Args:
        lane_state: The warm lane.
        spec: The trial.
        baseline: The base model's summary of each area.
        report: Where progress goes.
        should_stop: Asked before every step.
    """

    def __init__(
        self,
        lane_state: LaneState,
        spec: TrialSpec,
        baseline: dict[str, Summary],
        report: Callable[[Report], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.lane_state, self.spec, self.baseline, self.report = lane_state, spec, baseline, report
        hooks = Hooks(self.on_steps, self.on_checkpoint, should_stop, self.on_kept, lane_state.preemption)
        self.trial_run = TrialRun(
            lane_state.data, spec, lane_state.settings, hooks, lane_state.world, lane_state.base_losses()
        )
        self.steps = self.trial_run.epoch.steps
        self.writes = lane_state.world.rank == 0
        self.folder = Path(lane_state.settings.output_dir) / TRIALS_FOLDER / spec.trial_id
        self.files = TrialFiles(self.folder, writes=self.writes, driver_epoch=lane_state.settings.driver_epoch)
        self.pending = Pending(lane_state.writer)
        self.checkpoints: list[Report] = []
        self.evidence = HeldoutEvidence()
        self.tracker: Tracker | None = None
        self.began_at_step = 0
        self.started = time.monotonic()
        self.rows_before = lane_state.loop.rows

    @classmethod
    def of(
        cls,
        lane_state: LaneState,
        work: dict[str, Any],
        report: Callable[[Report], None],
        should_stop: Callable[[], bool],
    ) -> TrialJob:
        """The trial of a job `{"do": "trial", "spec", "baseline"}`, where "baseline" has each area's summary."""
        return cls(lane_state, TrialSpec.model_validate(work["spec"]), work["baseline"], report, should_stop)

    def begin(self) -> TrialRun:
        """Starts the trial's files and its W&B run, or goes on with them; returns what the loop trains."""
        settings, store = self.lane_state.settings, self.lane_state.store
        store.need(BASELINE_ITEMS)
        store.bring_trial(self.spec.trial_id, STATES_FOLDER, writes=self.writes)
        state = self._last_state()
        curve, items = self.files.begin(state.step if state else 0)
        if state:
            self._go_on(state, curve, items)
        if self.writes:
            self.tracker = Tracker(settings.wandb, settings.sweep, settings.output_dir)
            self.tracker.start(self.spec, {"model": settings.model.name, "method": settings.model.method})
        return self.trial_run

    def end(self, outcome: Outcome) -> Report:
        """The trial's end, for `trials.jsonl`; it counts when `pending` is settled."""
        end = self._end(outcome)
        if self.tracker:
            best = min((c["objective"] for c in self.checkpoints), default=None)
            self.tracker.finish(end["state"], {"objective": best, "findings": len(end["findings"])})
        return end

    def failed(self) -> None:
        """The trial ended by an error."""
        if self.tracker:
            self.tracker.finish("failed", {})

    def on_steps(self, records: list[StepRecord]) -> None:
        """Writes the curve and tells of progress, at every flush of the loop."""
        if not self.writes:
            return
        last = records[-1]
        self.pending.check()
        self.files.add_steps(records)
        self.lane_state.store.trial_lines(self.spec.trial_id)
        if self.tracker:
            self.tracker.steps(records)
        now = {"step": last.step, "steps": self.steps, "began_at_step": self.began_at_step}
        self.report({"kind": "progress", **now, "loss": last.loss, "lr": last.lr})

    def on_checkpoint(self, step: int, model: nn.Module) -> None:
        """Scores a checkpoint on every area and has it written."""
        answers_at = set(self.lane_state.settings.heldout.answers_at)
        with_answers = "all" in answers_at or ("last" in answers_at and step == self.steps)
        scores = {
            area: self.lane_state.score(model, area, with_answers=with_answers)
            for area in self.lane_state.settings.heldout.weights
        }
        if not self.writes:
            return
        self.evidence.add(step, scores)
        self.files.add_items(self.lane_state.lines(area, step, area_scores) for area, area_scores in scores.items())
        areas = {area: heldout.summarize(area_scores) for area, area_scores in scores.items()}
        weights = self.lane_state.settings.heldout.weights
        value = objective(areas, weights)
        path = self.folder / CHECKPOINTS_FOLDER / f"step-{step}"
        self.lane_state.store.trial_lines(self.spec.trial_id)
        saved = checkpoint.weights_of(model)
        self.pending.settle()  # never two checkpoints on their way: who is killed goes on from the one before at worst
        self.pending.submit(saved.tensors, lambda tensors: self._save(saved, tensors, path, step))
        relative = str(path.relative_to(self.lane_state.settings.output_dir))
        self.checkpoints.append({"step": step, "path": relative, "areas": areas, "objective": value})
        if self.tracker:
            self.tracker.areas(step, areas, self.baseline)
        self.report(
            {
                "kind": "areas",
                "seq": len(self.checkpoints),
                "step": step,
                "fraction": step / self.steps,
                "areas": areas,
                "objective": value,
            }
        )

    def on_kept(self, step: int, learnt: dict[str, torch.Tensor]) -> None:
        """Has that written which the trial can go on from; it is on disk after the checkpoint that it belongs to."""
        if not self.writes:
            return
        points = list(self.checkpoints)
        meta = {"spec": self.spec.model_dump(), "checkpoints": points, "seconds": self._seconds()}

        def write(tensors: training_state.Tensors) -> None:
            self.files.sync()
            training_state.save(self.folder / STATES_FOLDER, TrainingState(step, tensors, meta))
            self.lane_state.store.state(self.folder / STATES_FOLDER / f"step-{step}")
            # Only now: whoever goes on from an earlier state needs what was best by then.
            self._drop_all_but(best_and_last({c["step"]: c["objective"] for c in points}))

        self.pending.submit(learnt, write)

    def _save(self, saved: checkpoint.Weights, tensors: checkpoint.Tensors, path: Path, step: int) -> None:
        meta = {"trial_id": self.spec.trial_id, "step": step, "params": self.spec.params}
        checkpoint.save_weights(saved, tensors, path, meta)
        self.lane_state.store.sealed(path)

    def _drop_all_but(self, steps: Collection[int]) -> None:
        """Drops checkpoints of a trial that goes on; `sweeps.driver.checkpoint_cleanup` sees to those of trials
        that have ended."""
        if self.lane_state.settings.keep_all_checkpoints:
            return
        key = trial_file(self.spec.trial_id, CHECKPOINTS_FOLDER)
        self.lane_state.store.copy.keep_only(key, {f"step-{step}" for step in steps})

    def _last_state(self) -> TrainingState | None:
        """Where an earlier attempt, or an earlier start of the sweep, got to; the same for all workers."""
        state = training_state.load_latest(self.folder / STATES_FOLDER, {"spec": self.spec.model_dump()})
        steps = self.lane_state.world.gather(state.step if state else 0)
        return state if len(set(steps)) == 1 else None

    def _go_on(self, state: TrainingState, curve: list[Report], items: list[Report]) -> None:
        self.trial_run.resume_from(state.step, state.tensors, curve)
        self.trial_run.worker_seconds, before = state.meta["seconds"]
        self.started -= before
        self.checkpoints = state.meta["checkpoints"]
        self.evidence.replay(items)
        self.began_at_step = state.step
        text = f"{self.spec.trial_id} goes on from step {state.step} of {self.steps}"
        self.report({"kind": "notice", "level": "info", "text": text})

    def _seconds(self) -> tuple[float, float]:
        """Worker and wall seconds so far, of all attempts that counted."""
        return self.trial_run.worker_seconds, time.monotonic() - self.started

    def _padding_share(self) -> float | None:
        """Of the rows that the lane computed meanwhile, the part that held no token; None where trials don't pack."""
        rows, tokens = (now - then for now, then in zip(self.lane_state.loop.rows, self.rows_before, strict=True))
        return 1.0 - tokens / rows if rows else None

    def _end(self, outcome: Outcome) -> Report:
        wall = time.monotonic() - self.started
        findings = list(outcome.findings)
        if outcome.state == "complete":
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
                "wall_seconds": wall,
                "padding_share": self._padding_share(),
            },
            "error": None,
        }
