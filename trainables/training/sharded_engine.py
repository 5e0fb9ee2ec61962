"""Compute the steps of a full fine-tune whose weights are shared out over its workers."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import nn

from trainables.config.sections import TrainingConfig
from trainables.models.base_model import Base
from trainables.optim.sharded import ShardedGradients, ShardedOptimizer
from trainables.optim.step import BatchLosses, StepPart
from trainables.optim.workers import World
from trainables.training.engine import SingleTrial, SingleTrialEngine


def engine_of_one(base: Base, world: World) -> SingleTrialEngine:
    """The engine of trials that can't be packed."""
    return (ShardedEngine if base.is_sharded else SingleTrialEngine)(base, world)


class ShardedEngine(SingleTrialEngine):
    """Trains one trial at a time on the base's own weights, of which each worker has a part.

    `state` and `load` are of this worker's part.
    """

    def _prepared(self, model: nn.Module, training: TrainingConfig, seed: int) -> SingleTrial:
        gradients = ShardedGradients(model, self._world)
        return SingleTrial(model, gradients, ShardedOptimizer(gradients.parts, training), seed)

    def _add_gradients(self, slot: SingleTrial, part: StepPart) -> list[BatchLosses]:
        assert isinstance(slot.gradients, ShardedGradients)
        losses = []
        try:
            for batch in part.micro_batches:
                losses.append(BatchLosses.of(batch, slot.gradients.add(batch, part.step_tokens)))
            for filler in part.fillers:
                slot.gradients.add(filler, part.step_tokens, weight=0.0)
        except torch.OutOfMemoryError as error:
            _refuse(part, error)
        return losses


def _refuse(part: StepPart, error: torch.OutOfMemoryError) -> NoReturn:
    # The other workers wait within a pass for this one's part, so that no vote can be taken and no smaller step tried.
    most = max((batch.tokens for batch in part.micro_batches), default=0)
    rule = f"memory ran out on a worker of a sharded trial, with micro-batches of up to {most} tokens"
    raise RuntimeError(f"{rule}: set training.micro_batch_tokens to {max(1, most // 2)}, or more workers") from error
