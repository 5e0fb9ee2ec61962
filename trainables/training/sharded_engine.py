"""Compute the steps of a trial that can't be packed and whose base is shared out over its workers."""

from __future__ import annotations

from torch import nn

from trainables.config.sections import TrainingConfig
from trainables.models.base_model import Base
from trainables.optim.sharded import ShardedGradients, ShardedOptimizer
from trainables.optim.step import BatchLosses, StepPart, memory_ends_the_trial
from trainables.optim.workers import World
from trainables.training.engine import SingleTrial, SingleTrialEngine


def engine_of_one(base: Base, world: World) -> SingleTrialEngine:
    """The engine of trials that can't be packed."""
    return (ShardedEngine if base.is_sharded else SingleTrialEngine)(base, world)


class ShardedEngine(SingleTrialEngine):
    """Trains one trial at a time on a base of which each worker has a part.

    `state` and `load` of a full fine-tune are of this worker's part; an adapter is whole on each worker.
    """

    def _prepared(self, model: nn.Module, training: TrainingConfig, seed: int) -> SingleTrial:
        if self._base.method == "lora":
            return super()._prepared(model, training, seed)
        gradients = ShardedGradients(model, self._world)
        return SingleTrial(model, gradients, ShardedOptimizer(gradients.parts, training), seed)

    def _add_gradients(self, slot: SingleTrial, part: StepPart) -> list[BatchLosses]:
        losses = []
        with memory_ends_the_trial([part]):
            for batch in part.micro_batches:
                losses.append(BatchLosses.of(batch, slot.gradients.add(batch, part.step_tokens)))
            for filler in part.fillers:
                slot.gradients.add(filler, part.step_tokens, weight=0.0)
        return losses
