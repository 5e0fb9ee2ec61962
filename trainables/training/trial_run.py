"""A trial's run through its epoch: its next samples, its curve, and how it ends. Computes no gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainables.config.hyperparameters import with_params
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import Batch, TokenizedSet
from trainables.data.epoch import (
    checkpoint_steps,
    epoch_order,
    plan_epoch,
    split_by_tokens,
    split_for_worker,
    step_indices,
)
from trainables.diagnostics import CurveMonitor, Finding
from trainables.evaluation.base_losses import BaseLosses
from trainables.optim.lr_schedule import make_schedule
from trainables.optim.step import StepPart, Stepped
from trainables.optim.workers import SOLO, World
from trainables.training.curve_recorder import CurveRecorder
from trainables.training.hooks import Hooks, Speed, State

MICRO_BATCH_TOKENS = "micro_batch_tokens"  # name in a saved state

# A worker's vote before a step; the highest of all workers' votes counts.
CONTINUE, CHECK_PREEMPTION, STOP, STOP_AND_KEEP = 0, 1, 2, 3


@dataclass(frozen=True)
class Outcome:
    """How a trial's training ended.

    Attributes:
        state: "complete", "diverged" (found at a report point: the result is not usable), "stopped" (on request),
            "preempted" (the lane's node goes away, or the sweep is interrupted) or "paused" (as asked); the last two
            saved a resume state.
        steps: Optimizer steps done.
        steps_planned: Optimizer steps of the epoch.
        samples_seen: Samples trained on, each once.
        findings: Findings of the diagnostics.
        monitor: The diagnostics themselves, for later comparisons with the curve.
        worker_seconds: Time on each worker, with checkpoints; trials that train together share their steps' time.
    """

    state: State
    steps: int
    steps_planned: int
    samples_seen: int
    findings: list[Finding]
    monitor: CurveMonitor = field(compare=False, repr=False)
    worker_seconds: float = field(default=0.0, compare=False)


class TrialRun:
    """One trial's run through its epoch.

    Args:
        data: The training set.
        spec: The trial; its params replace the config's values.
        config: The sweep's sections.
        hooks: Destinations of curve and checkpoints, and the stop signal.
        world: The workers that share the trial.
        base_losses: The base model's losses on `data`, recorded with the trial's; None if unknown.
        pause_at: Fraction of the epoch; the trial ends as paused after the checkpoint there. None to train to the end.

    Attributes:
        training, lora: The config's sections with the trial's params.
        epoch: Its steps.
        step: Optimizer steps done.
        worker_seconds: Time spent on each worker so far.
        micro_batch_tokens: Most tokens of a micro-batch; None while whole batches fit.
        resume_state: State to load before the first step; None for a fresh start.
        saved_at: Step of the last saved resume state; 0 for the start.
        keeps_step: Whether each worker runs as many micro-batches as the others, because every pass is collective.

    Raises:
        UserError: The LR schedule does not fit the params or the number of steps.
        ValueError: No checkpoint is written at `pause_at`.
    """

    def __init__(
        self,
        data: TokenizedSet,
        spec: TrialSpec,
        config: LaneConfig,
        hooks: Hooks,
        world: World = SOLO,
        base_losses: BaseLosses | None = None,
        pause_at: float | None = None,
    ) -> None:
        self.spec = spec
        self.hooks = hooks
        self.training, self.lora = with_params(config.training, config.model.lora, spec.params)
        self.step = 0
        self.worker_seconds = 0.0
        self.resume_state: dict[str, torch.Tensor] | None = None
        self.saved_at = 0
        self.keeps_step = False
        asked = self.training.micro_batch_tokens
        self.micro_batch_tokens = self._asked_tokens = None if asked == "auto" else asked
        self._data = data
        self.world = world
        self._order = epoch_order(len(data), spec.seed, spec.fraction)
        self.epoch = plan_epoch(len(self._order), self.training, world.size)
        self._schedule = make_schedule(spec.params, self.training.schedule, self.epoch.steps)
        self._pause_step = None if pause_at is None else self._checkpoint_to_pause_at(pause_at)
        self._timed_step, self._untold_seconds = 0, 0.0  # of the last `Speed`, and of the steps since then
        self._curve = CurveRecorder(self._schedule, self.training.max_grad_norm, world, base_losses)

    def resume_from(self, step: int, state: dict[str, torch.Tensor], curve: Sequence[Mapping[str, Any]]) -> None:
        """Set the trial to resume from a saved state, before it joins a loop.

        Args:
            step: Optimizer steps done.
            state: The state that `Hooks.save_state` got then.
            curve: The lines of the curve up to then.
        """
        assert self.step == 0
        if len(curve) != step:
            raise ValueError(f"a curve of {len(curve)} steps is not that of a trial after {step}")
        self.step = self.saved_at = self._timed_step = step
        # With the same micro-batches a resumed trial adds up its gradients in the same order, to the bit.
        found = state.get(MICRO_BATCH_TOKENS)
        self.limit_micro_batches(None if found is None else int(found))
        self.resume_state = {name: tensor for name, tensor in state.items() if name != MICRO_BATCH_TOKENS}
        # The monitor has no state of its own on disk: reading the curve again rebuilds it exactly.
        self._curve.replay(curve)

    def limit_micro_batches(self, most: int | None) -> None:
        """Use micro-batches of at most so many tokens, and of no more than before; None changes nothing."""
        known = [limit for limit in (self.micro_batch_tokens, most) if limit is not None]
        self.micro_batch_tokens = min(known, default=None)

    def forget_limit(self) -> None:
        """Use the micro-batches that the config asks for."""
        self.micro_batch_tokens = self._asked_tokens

    def with_limit(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A state of the engine with what this run has found, for `resume_from`."""
        if self.micro_batch_tokens is None:
            return state
        return {**state, MICRO_BATCH_TOKENS: torch.tensor(self.micro_batch_tokens)}

    @property
    def checkpoint_is_due(self) -> bool:
        return self.step in self.epoch.checkpoints

    @property
    def diverged(self) -> bool:
        """Whether the report after this step shows that the result is not usable."""
        return self._curve.diverged and self.step in self.epoch.report_points

    def requested_end(self) -> State | None:
        """Whether the trial must end before the next step, and how. Collective: all workers call it together."""
        if self._pause_step is not None and self.step >= self._pause_step:
            return "paused"
        preemption = self.hooks.preemption
        # One collective for both questions: workers' clocks and stop flags differ, and all must act on the same step.
        vote = STOP if self.hooks.should_stop() else CHECK_PREEMPTION if preemption.is_due else CONTINUE
        agreed = self.world.highest(STOP_AND_KEEP if self.hooks.interrupted() else vote)
        if agreed == STOP_AND_KEEP:
            return "preempted"
        if agreed == STOP:
            return "stopped"
        return "preempted" if agreed == CHECK_PREEMPTION and preemption.check() else None

    def next_step(self) -> StepPart:
        """This worker's part of the next step."""
        indices = step_indices(self._order, self.step, self.epoch.samples_per_step)
        # Of all workers' samples: each divides its summed loss by the same number.
        tokens = sum(int(np.count_nonzero(self._data.label_mask(i))) for i in indices)
        own = self._share(indices, self.world.rank)
        fillers = self._fillers(indices, len(own)) if self.keeps_step else []
        return StepPart([self._data.batch(part) for part in own], tokens, self._schedule.lr(self.step), fillers)

    def _fillers(self, indices: np.ndarray, own: int) -> list[Batch]:
        """As many batches as other workers have micro-batches more than this one's `own`."""
        most = max(len(self._share(indices, rank)) for rank in range(self.world.size))
        return [self._data.batch(indices[:1])] * (most - own) if most > own else []

    def _share(self, indices: np.ndarray, rank: int) -> list[list[int]]:
        """A worker's micro-batches of a step."""
        batches = split_for_worker(indices, rank, self.world.size, self.training.batch_size)
        return split_by_tokens(batches, self._data.lengths, self.micro_batch_tokens)

    def record_step(self, stepped: Stepped) -> None:
        """Record a step's result; at a report point, report the curve."""
        self._curve.add(stepped.losses, stepped.grad_norm)
        self.step += 1
        if self.step in self.epoch.report_points:
            self.report()

    def add_step_time(self, seconds: float) -> None:
        """Count the time of the step that was recorded last; at a report point, hand the speed to the hooks."""
        self.worker_seconds += seconds
        self._untold_seconds += seconds
        if self.step in self.epoch.report_points and self._untold_seconds > 0:
            first, last = map(self.epoch.samples_seen, (self._timed_step, self.step))
            tokens = sum(int(self._data.lengths[i]) for i in self._order[first:last])
            speed = Speed(self.step, tokens, self._untold_seconds)
            self._timed_step, self._untold_seconds = self.step, 0.0
            with self.world.all_or_none():
                self.hooks.speed(speed)

    def report(self) -> None:
        """Hand the steps since the last report to the hooks. The trial waits for its device here."""
        if records := self._curve.flush():
            with self.world.all_or_none():
                self.hooks.steps(records)

    def _checkpoint_to_pause_at(self, fraction: float) -> int | None:
        steps = self.epoch.steps
        (step,) = checkpoint_steps([fraction], steps)
        if step not in self.epoch.checkpoints:
            raise ValueError(f"a trial can pause at a checkpoint only, step {step} is none: {self.epoch.checkpoints}")
        # During warm-up a score says little of the setting, and after the last step there is nothing to pause.
        return step if self._schedule.warmup_steps < step < steps else None

    def outcome(self, state: State) -> Outcome:
        done, epoch, curve = self.step, self.epoch, self._curve
        seen, seconds = epoch.samples_seen(done), self.worker_seconds
        return Outcome(state, done, epoch.steps, seen, curve.findings, curve.monitor, seconds)
