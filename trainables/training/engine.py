"""Compute the steps of a single trial that can't be packed: full fine-tuning, or adapters of special layers.

`SingleTrialEngine` has the methods of `Pack`, so that one loop drives both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.models.base_model import Base
from trainables.optim.optimizer import Gradients, Optimizer
from trainables.optim.step import BatchLosses, StepPart, Stepped
from trainables.optim.workers import World, dropout_state


@dataclass(eq=False)
class SingleTrial:
    """The trial in training."""

    model: nn.Module
    gradients: Gradients
    optimizer: Optimizer
    seed: int
    steps: int = 0


class SingleTrialEngine:
    """Trains one trial at a time, on the base's own weights or with PEFT's adapter."""

    def __init__(self, base: Base, world: World) -> None:
        self._base, self._world = base, world
        self._slot: SingleTrial | None = None

    def join(self, lora: LoraConfig, training: TrainingConfig, seed: int) -> SingleTrial:
        """Prepare the base for a trial; raises as `Base.prepare` does."""
        assert self._slot is None, "one trial at a time"
        self._slot = self._prepared(self._base.prepare(lora, seed), training, seed)
        return self._slot

    def step(self, parts: Sequence[StepPart]) -> list[Stepped]:
        """Run the trial's micro-batches one by one, then update.

        Raises:
            torch.OutOfMemoryError: Memory ran out on a worker; the trial is as it was before, on all of them.
            RuntimeError: It ran out in the update.
        """
        (part,), slot = parts, self._slot
        assert slot is not None
        # The global generator, which PEFT's dropout layers draw from.
        torch.manual_seed(dropout_state(slot.seed, slot.steps, self._world.rank))
        slot.gradients.clear()  # of a step whose memory ran out
        losses = self._add_gradients(slot, part)
        try:
            slot.gradients.sum_over_workers()
            grad_norm = slot.optimizer.step(part.lr)
        except torch.OutOfMemoryError as error:
            # Some weights may be updated, perhaps on this worker alone: the step can't be repeated, and smaller
            # micro-batches would save nothing here.
            raise RuntimeError("gradients and optimizer state do not fit into the device's memory") from error
        slot.steps += 1
        return [Stepped(losses, grad_norm)]

    def _prepared(self, model: nn.Module, training: TrainingConfig, seed: int) -> SingleTrial:
        return SingleTrial(model, Gradients(model, self._world), Optimizer(model, training), seed)

    def _add_gradients(self, slot: SingleTrial, part: StepPart) -> list[BatchLosses]:
        losses = []
        with self._world.all_or_none():
            for batch in part.micro_batches:
                losses.append(BatchLosses.of(batch, slot.gradients.add(batch, part.step_tokens)))
        return losses

    @contextmanager
    def model_of(self, slot: SingleTrial) -> Iterator[nn.Module]:
        """Context manager: the model in evaluation mode, for scoring or saving."""
        slot.model.eval()
        try:
            yield slot.model
        finally:
            slot.model.train()

    def leave(self, slot: SingleTrial) -> None:
        """Restore the base."""
        assert slot is self._slot
        self._slot = None
        self._base.restore()

    def state(self, slot: SingleTrial) -> dict[str, torch.Tensor]:
        """The trained weights and their optimizer state; read them before the next step."""
        return slot.optimizer.state()

    def load(self, slot: SingleTrial, state: dict[str, torch.Tensor], steps: int) -> None:
        slot.optimizer.load(state, steps)
        slot.steps = steps
