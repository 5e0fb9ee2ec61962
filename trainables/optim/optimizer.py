"""Turn losses into updates: gradients, summed over the workers, and the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from trainables.config.sections import TrainingConfig
from trainables.data.dataset import Batch
from trainables.models.pretrained import bitsandbytes_is_missing
from trainables.models.token_losses import item_sums, token_losses
from trainables.optim.workers import World

# Gradients are summed over the workers in parts of this size: small ones together, for each sum has a latency. Ours.
BUCKET_BYTES = 64 << 20

# Names of both running means in a state, and the optimizer's own.
MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}
# In blocks of 256, each with a scale. A tensor of fewer than 4,096 weights is kept in float32, without scales.
MOMENTS_8BIT = {"first": "state1", "second": "state2", "first_scales": "absmax1", "second_scales": "absmax2"}


class Gradients:
    """Losses and gradients of a trial's batches; sums gradients over the workers.

    Args:
        model: The model from `Base.prepare`, with the same bits on every worker.
        world: The workers.
    """

    _scale = 1  # of the gradient

    def __init__(self, model: nn.Module, world: World) -> None:
        self.device = next(model.parameters()).device
        self._model, self._world = model, world
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]

    def add(self, batch: Batch, step_tokens: int, weight: float = 1.0) -> torch.Tensor:
        """Add a batch's part of the gradient of the step's mean loss.

        Args:
            batch: A micro-batch.
            step_tokens: Label tokens of the whole step, over all micro-batches and workers.
            weight: 0 for a batch that only takes part because other workers have one more.

        Returns:
            (items,) float64, on the model's device: each item's summed loss in nats.
        """
        batch = batch.to(self.device)
        nll = token_losses(self._model, batch)  # (labels,)
        (nll.sum() * (weight * self._scale / step_tokens)).backward()
        return item_sums(nll, batch)

    def sum_over_workers(self) -> None:
        """Give every worker the sum of all workers' gradients. Collective."""
        # After the last micro-batch, not within its backward pass as DDP does: there a worker whose memory runs out
        # would leave the others waiting for its part.
        if self._world.size == 1:
            return
        for weight in self._weights:
            if weight.grad is None:  # of a worker without samples
                weight.grad = torch.zeros_like(weight)
        for bucket in _buckets([weight.grad for weight in self._weights if weight.grad is not None]):
            flat = bucket[0] if len(bucket) == 1 else torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            if len(bucket) > 1:
                parts = flat.split([gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))

    def clear(self) -> None:
        """Drop what has been added."""
        for weight in self._weights:
            weight.grad = None


def _buckets(gradients: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Split a list into parts of one type and at most `BUCKET_BYTES`, or of one larger gradient."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        full = sum(other.nbytes for other in bucket) + gradient.nbytes > BUCKET_BYTES
        if bucket and (full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


class Optimizer:
    """Gradient clipping and AdamW (Loshchilov and Hutter 2019), with the LR given at each step.

    Weight decay acts on matrices only, not on biases and norms, as in Hugging Face's `Trainer`.

    Args:
        model: The model whose trainable weights are optimized.
        training: `optimizer`, `beta1`, `beta2`, `eps`, `weight_decay` and `max_grad_norm` are read.

    Raises:
        UserError: The optimizer needs bitsandbytes, which is not installed.
    """

    def __init__(self, model: nn.Module, training: TrainingConfig) -> None:
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.max_grad_norm = training.max_grad_norm
        groups = [
            {"params": [w for w in self.weights if w.ndim > 1], "weight_decay": training.weight_decay},
            {"params": [w for w in self.weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adamw, self._moments = _adamw([group for group in groups if group["params"]], training)

    def step(self, lr: float) -> torch.Tensor:
        """Clip the gradient, update the weights and clear the gradient.

        Returns:
            Scalar on the weights' device: the gradient's total L2 norm before clipping.
        """
        # Stays a tensor on the device: reading the norm would make every step wait for the GPU.
        grad_norm = self.grad_norm()
        if self.max_grad_norm > 0.0:
            clip_grads_with_norm_(self.weights, self.max_grad_norm, grad_norm)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return grad_norm

    def grad_norm(self) -> torch.Tensor:
        """The gradient's total L2 norm, a scalar on the weights' device."""
        return get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])

    def state(self) -> dict[str, torch.Tensor]:
        """References to the weights and AdamW's two running means, by number; the next step overwrites them."""
        found = {}
        for number, weight in enumerate(self.weights):
            found[f"weight.{number}"] = weight.detach()
            for name, tensor in self._kept(weight).items():
                found[f"{name}.{number}"] = tensor.detach()
        return found

    def load(self, state: dict[str, torch.Tensor], steps: int) -> None:
        """Restore a `state` taken after `steps` steps.

        Raises:
            KeyError: It is of a model with other weights.
        """
        for number, weight in enumerate(self.weights):
            with torch.no_grad():
                weight.copy_(state[f"weight.{number}"])
        if isinstance(self.adamw, torch.optim.AdamW):
            for number, weight in enumerate(self.weights):
                self.adamw.state[weight] = {
                    "step": torch.full((), float(steps), device=weight.device),
                    "exp_avg": state[f"first.{number}"].to(weight.device),
                    "exp_avg_sq": state[f"second.{number}"].to(weight.device),
                }
            return
        numbers = {id(weight): number for number, weight in enumerate(self.weights)}
        for place, group in enumerate(self.adamw.param_groups):
            for place_in_group, weight in enumerate(group["params"]):
                self.adamw.init_state(group, weight, place, place_in_group)
                self.adamw.state[weight]["step"] = steps
                for name, tensor in self._kept(weight).items():
                    tensor.copy_(state[f"{name}.{numbers[id(weight)]}"])

    def _kept(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        own = self.adamw.state[weight]
        return {name: own[key] for name, key in self._moments.items() if key in own}


def _adamw(groups: list[dict[str, Any]], training: TrainingConfig) -> tuple[Any, dict[str, str]]:
    settings: dict[str, Any] = {"lr": 0.0, "betas": (training.beta1, training.beta2), "eps": training.eps}
    if training.optimizer == "adamw":
        # fused: 0.31 s a step (2 CPU cores, 135M weights), against 0.55 s for foreach and 0.73 s for the plain loop.
        return torch.optim.AdamW(groups, **settings, fused=True), MOMENTS
    if error := bitsandbytes_is_missing("training.optimizer"):
        raise error
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, **settings), MOMENTS_8BIT
