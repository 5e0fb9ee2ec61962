"""One trial: one epoch over the training set, every sample seen once. Knows neither Ray nor W&B.

`train` is the story. Losses stay on the device until a report point, so that no step waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import nn

from trainables.base_losses import BaseLosses
from trainables.config import LaneConfig, TrialSpec, with_params
from trainables.curve import BatchLosses, CurveRecorder, StepRecord
from trainables.data import TokenisedSet
from trainables.diagnostics import CurveWatch, Finding
from trainables.epoch import plan_epoch
from trainables.model import Base
from trainables.optimise import SOLO, Gradients, Optimiser, World
from trainables.order import epoch_order, split_for_worker, step_indices
from trainables.schedule import make_schedule


@dataclass(frozen=True)
class Hooks:
    """What the loop calls. An exception in a hook ends the trial.

    With several workers each calls its own: `steps` and `checkpoint` are called on all, after the same steps and with
    the same records; `should_stop` may be true on one of them and stops all.

    Attributes:
        steps: Called at every report point with the steps since the last one.
        checkpoint: Called with the number of steps done and the model, in evaluation mode.
        should_stop: Asked before every step; after True not one more is trained.
    """

    steps: Callable[[list[StepRecord]], None]
    checkpoint: Callable[[int, nn.Module], None]
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class Outcome:
    """How a trial's training ended.

    Attributes:
        state: "complete", "diverged" (seen at a report point: the result is not usable) or "stopped" (as asked).
        steps: Optimiser steps done.
        steps_planned: Optimiser steps of the epoch.
        samples_seen: Samples trained on, each once.
        findings: What the diagnostics saw in the curve.
        watch: The diagnostics themselves, for what is compared with the curve later.
    """

    state: Literal["complete", "diverged", "stopped"]
    steps: int
    steps_planned: int
    samples_seen: int
    findings: list[Finding]
    watch: CurveWatch = field(compare=False, repr=False)


def train(
    base: Base,
    data: TokenisedSet,
    spec: TrialSpec,
    config: LaneConfig,
    hooks: Hooks,
    world: World = SOLO,
    base_losses: BaseLosses | None = None,
) -> Outcome:
    """Trains one trial for one epoch.

    The curve depends on the arguments alone: a base that has served other trials gives the same one, to the bit, as a
    fresh base. The trained weights stay in the base until its next `prepare` or `restore`.

    Args:
        base: The base model.
        data: The training set.
        spec: The trial; its params take the place of the config's values.
        config: The sweep's sections.
        hooks: Where the curve and the checkpoints go, and who may stop the trial.
        world: The workers that share the trial. Each calls `train` with the same arguments.
        base_losses: The base model's losses on `data`, to record beside the trial's; None where they are not known.

    Returns:
        How it ended. Diverged and stopped trials write no further checkpoint.

    Raises:
        UserError: The LR schedule does not fit the params or the number of steps.
    """
    training, lora = with_params(config.training, config.model.lora, spec.params)
    epoch = plan_epoch(len(data), training, world.size)
    schedule = make_schedule(spec.params, training.schedule, epoch.steps)
    order = epoch_order(len(data), spec.seed)
    model = base.prepare(lora, spec.seed)
    gradients = Gradients(model, world)
    optimiser = Optimiser(model, training)
    curve = CurveRecorder(schedule, training.max_grad_norm, world, base_losses)

    def outcome(state: Literal["complete", "diverged", "stopped"], steps: int) -> Outcome:
        return Outcome(state, steps, epoch.steps, epoch.samples_seen(steps), curve.findings, curve.watch)

    model.train()
    for step in range(epoch.steps):
        if world.any(hooks.should_stop()):
            if records := curve.flush():
                hooks.steps(records)
            return outcome("stopped", step)

        seed_dropout(spec.seed, step, world.rank)
        indices = step_indices(order, step, epoch.samples_per_step)
        losses = add_gradients(gradients, data, indices, world, training.batch_size)
        grad_norm = optimiser.step(schedule.lr(step))
        curve.add(losses, grad_norm)

        if step + 1 in epoch.report_points:
            hooks.steps(curve.flush())
            if curve.diverged:
                return outcome("diverged", step + 1)
        if step + 1 in epoch.checkpoints:
            with evaluating(model):
                hooks.checkpoint(step + 1, model)
    return outcome("complete", epoch.steps)


def add_gradients(
    gradients: Gradients, data: TokenisedSet, indices: np.ndarray, world: World, batch_size: int
) -> list[BatchLosses]:
    """Adds up the gradient of a step's mean loss over its label tokens, this worker's micro-batches one by one.

    Returns:
        The losses of this worker's micro-batches; none where a short last step leaves it without samples.
    """
    step_tokens = sum(int(np.count_nonzero(data.label_mask(i))) for i in indices)
    micro_batches = split_for_worker(indices, world.rank, world.size, batch_size)
    if not micro_batches:
        gradients.add(data.batch(indices[:1]), step_tokens, last=True, weight=0.0)
    losses = []
    for number, micro_batch in enumerate(micro_batches, start=1):
        batch = data.batch(micro_batch)
        sums = gradients.add(batch, step_tokens, last=number == len(micro_batches))
        losses.append(BatchLosses.of(batch, sums))
    return losses


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Makes a step's dropout depend on the trial's seed, the step and the worker, not on what ran before."""
    (state,) = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(state))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, training mode after."""
    model.eval()
    yield
    model.train()
