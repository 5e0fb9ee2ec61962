"""Gradients and optimizer of weights that are shared out over the workers: each updates its own parts."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from trainables.config.sections import TrainingConfig
from trainables.models.sharding.shards import local
from trainables.optim.optimizer import Gradients, Optimizer
from trainables.optim.workers import World


class ShardedGradients(Gradients):
    """As `Gradients`, of a model from `trainables.models.sharding.shards.shard`. Every method is collective.

    Attributes:
        parts: This worker's parts of the weights, in the model's memory.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        super().__init__(model, world)
        # The workers' gradients are averaged (Rajbhandari et al. 2020, as torch does it); their sum is wanted.
        self._scale = world.size
        self.parts = nn.ParameterList([nn.Parameter(local(weight)) for weight in self._weights])

    def sum_over_workers(self) -> None:
        """Hand the sums, which the backward passes have made, to the parts."""
        for weight, part in zip(self._weights, self.parts, strict=True):
            part.grad = None if weight.grad is None else local(weight.grad)
            weight.grad = None

    def clear(self) -> None:
        super().clear()
        self.parts.zero_grad(set_to_none=True)


class ShardedOptimizer(Optimizer):
    """As `Optimizer`, of this worker's parts; the gradient's norm is that of all workers' parts.

    Args:
        parts: From `ShardedGradients`.
        training: As for `Optimizer`.
    """

    def __init__(self, parts: nn.ParameterList, training: TrainingConfig) -> None:
        super().__init__(parts, training)

    def grad_norm(self) -> torch.Tensor:
        total = super().grad_norm().square()
        dist.all_reduce(total)
        return total.sqrt()
