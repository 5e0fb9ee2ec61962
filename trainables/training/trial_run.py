"""A trial's trial_run through its epoch: what it trains on next, its curve, and how it ends. Computes no gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from trainables.config.hyperparameters import with_params
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.data.epoch import epoch_order, plan_epoch, split_for_worker, step_indices
from trainables.diagnostics import CurveMonitor, Finding
from trainables.evaluation.base_losses import BaseLosses
from trainables.optim.lr_schedule import make_schedule
from trainables.optim.step import StepPart, Stepped
from trainables.optim.workers import SOLO, World
from trainables.reliability.preemption import Preemption
from trainables.training.curve_recorder import CurveRecorder, StepRecord

State = Literal["complete", "diverged", "stopped", "preempted"]

GO_ON, LOOK, STOP = 0, 1, 2  # What a worker votes for before a step; the highest vote counts


@dataclass(frozen=True)
class Hooks:
    """What the loop calls. An exception in a hook ends the trial.

    With several workers each calls its own: `steps` and `checkpoint` are called on all, after the same steps and with
    the same records; `should_stop` may be true on one of them and stops all.

    Attributes:
        steps: Called at every report point with the steps since the last one.
        checkpoint: Called with the number of steps done and the model, in evaluation mode.
        should_stop: Asked before every step; after True not one more is trained.
        keep: Called after every checkpoint but the last, and when the lane is to leave, with the number of steps done
            and what the trial needs to go on from there, which the next step changes; None where nobody keeps it.
        preemption: Looked at before a step when it is due on one worker, by all.
    """

    steps: Callable[[list[StepRecord]], None]
    checkpoint: Callable[[int, nn.Module], None]
    should_stop: Callable[[], bool]
    keep: Callable[[int, dict[str, torch.Tensor]], None] | None = None
    preemption: Preemption = field(default_factory=Preemption)


@dataclass(frozen=True)
class Outcome:
    """How a trial's training ended.

    Attributes:
        state: "complete", "diverged" (seen at a report point: the result is not usable), "stopped" (as asked) or
            "preempted" (its lane's node is to go; what it can go on from is kept).
        steps: Optimizer steps done.
        steps_planned: Optimizer steps of the epoch.
        samples_seen: Samples trained on, each once.
        findings: What the diagnostics saw in the curve.
        monitor: The diagnostics themselves, for what is compared with the curve later.
        worker_seconds: What the trial took of each worker, its checkpoints included; trials that were trained together
            share the time of their steps.
    """

    state: State
    steps: int
    steps_planned: int
    samples_seen: int
    findings: list[Finding]
    monitor: CurveMonitor = field(compare=False, repr=False)
    worker_seconds: float = field(default=0.0, compare=False)


class TrialRun:
    """One trial's way through its epoch.

    Args:
        data: The training set.
        spec: The trial; its params take the place of the config's values.
        config: The sweep's sections.
        hooks: Where the curve and the checkpoints go, and who may stop the trial.
        world: The workers that share the trial.
        base_losses: The base model's losses on `data`, to record beside the trial's; None where they are not known.

    Attributes:
        training, lora: The config's sections with the trial's params in.
        epoch: Its steps.
        step: Optimizer steps done.
        worker_seconds: What it has taken of each worker so far.
        learnt: What the trial goes on from, if it is not from its first step.
        kept_at: The step of what it could go on from by now; 0 if that is its start.

    Raises:
        UserError: The LR schedule does not fit the params or the number of steps.
    """

    def __init__(
        self,
        data: TokenizedSet,
        spec: TrialSpec,
        config: LaneConfig,
        hooks: Hooks,
        world: World = SOLO,
        base_losses: BaseLosses | None = None,
    ) -> None:
        self.spec, self.hooks = spec, hooks
        self.training, self.lora = with_params(config.training, config.model.lora, spec.params)
        self.step, self.worker_seconds = 0, 0.0
        self.learnt: dict[str, torch.Tensor] | None = None
        self.kept_at = 0
        self._data, self._world = data, world
        self._order = epoch_order(len(data), spec.seed, spec.fraction)
        self.epoch = plan_epoch(len(self._order), self.training, world.size)
        self._schedule = make_schedule(spec.params, self.training.schedule, self.epoch.steps)
        self._curve = CurveRecorder(self._schedule, self.training.max_grad_norm, world, base_losses)

    def resume_from(self, step: int, learnt: dict[str, torch.Tensor], curve: Sequence[Mapping[str, Any]]) -> None:
        """Makes the trial one that goes on, before it joins a loop.

        Args:
            step: Optimizer steps done.
            learnt: What `Hooks.keep` was given then.
            curve: The lines of the curve up to then.
        """
        assert self.step == 0
        if len(curve) != step:
            raise ValueError(f"a curve of {len(curve)} steps is not that of a trial after {step}")
        self.step, self.learnt, self.kept_at = step, learnt, step
        self._curve.replay(curve)

    @property
    def checkpoint_is_due(self) -> bool:
        """Whether a checkpoint belongs after the step just done."""
        return self.step in self.epoch.checkpoints

    @property
    def diverged(self) -> bool:
        """Whether the diagnostics say, as of the report after this step, that the result is not usable."""
        return self._curve.diverged and self.step in self.epoch.report_points

    def requested_end(self) -> State | None:
        """What the trial is to end as now, if it is: "stopped" or "preempted". All workers call this together."""
        preemption = self.hooks.preemption
        vote = STOP if self.hooks.should_stop() else LOOK if preemption.is_due else GO_ON
        agreed = self._world.highest(vote)
        if agreed == STOP:
            return "stopped"
        return "preempted" if agreed == LOOK and preemption.look() else None

    def next_step(self) -> StepPart:
        """This worker's part of the next step."""
        indices = step_indices(self._order, self.step, self.epoch.samples_per_step)
        tokens = sum(int(np.count_nonzero(self._data.label_mask(i))) for i in indices)
        world = self._world
        own = split_for_worker(indices, world.rank, world.size, self.training.batch_size)
        spare = None if own else self._data.batch(indices[:1])
        return StepPart([self._data.batch(part) for part in own], tokens, self._schedule.lr(self.step), spare)

    def record_step(self, stepped: Stepped) -> None:
        """Takes in what the step gave; at a report point the curve is brought to the host and handed on."""
        self._curve.add(stepped.losses, stepped.grad_norm)
        self.step += 1
        if self.step in self.epoch.report_points:
            self.report()

    def report(self) -> None:
        """Hands on the steps since the last report. Here a trial waits for its device."""
        if records := self._curve.flush():
            self.hooks.steps(records)

    def outcome(self, state: State) -> Outcome:
        """How the trial ended."""
        done, epoch, curve = self.step, self.epoch, self._curve
        seen, seconds = epoch.samples_seen(done), self.worker_seconds
        return Outcome(state, done, epoch.steps, seen, curve.findings, curve.monitor, seconds)
