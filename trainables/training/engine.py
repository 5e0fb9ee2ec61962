"""What computes the steps of trials: a pack of adapters on one frozen base, or one trial alone.

Both take the same calls, so that there is one loop. `SingleTrialEngine` serves what can't be packed: full
fine-tuning, and adapters of layers that are not plain linear ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.models.base_model import Base
from trainables.optim.optimizer import Gradients, Optimizer
from trainables.optim.step import BatchLosses, StepPart, Stepped
from trainables.optim.workers import World, dropout_state


class Engine(Protocol):
    """Computes the steps of the trials that have joined it."""

    def join(self, lora: LoraConfig, training: TrainingConfig, seed: int) -> Any:
        """Takes a trial in as the last, untrained; returns its slot."""

    def step(self, parts: Sequence[StepPart]) -> list[Stepped]:
        """Trains every trial by one optimizer step; `parts` and the result are in the order of joining."""

    def model_of(self, slot: Any) -> AbstractContextManager[nn.Module]:
        """Inside, a slot's model as it stands, in evaluation mode: to score or to save."""

    def leave(self, slot: Any) -> Any:
        """Takes a trial out; those after it move up."""

    def state(self, slot: Any) -> dict[str, torch.Tensor]:
        """What a slot has learnt: its weights and its optimizer's memory, to be read before the next step."""

    def load(self, slot: Any, state: dict[str, torch.Tensor], steps: int) -> None:
        """Has the slot that joined last go on from a state, after so many steps."""


@dataclass(eq=False)
class _SingleTrial:
    """The trial that is being trained."""

    model: nn.Module
    gradients: Gradients
    optimizer: Optimizer
    seed: int
    steps: int = 0


class SingleTrialEngine:
    """One trial at a time, on the base's own weights or with an adapter of PEFT's.

    Args:
        base: The base model.
        world: The workers that share the trial.
    """

    def __init__(self, base: Base, world: World) -> None:
        self._base, self._world = base, world
        self._slot: _SingleTrial | None = None

    def join(self, lora: LoraConfig, training: TrainingConfig, seed: int) -> _SingleTrial:
        """Prepares the base for a trial.

        Raises:
            UserError: `lora.target_modules` names what the model doesn't have.
        """
        assert self._slot is None, "one trial at a time"
        model = self._base.prepare(lora, seed)
        self._slot = _SingleTrial(model, Gradients(model, self._world), Optimizer(model, training), seed)
        return self._slot

    def step(self, parts: Sequence[StepPart]) -> list[Stepped]:
        """Trains the trial by one step: its micro-batches one by one, then the update."""
        (part,), slot = parts, self._slot
        assert slot is not None
        torch.manual_seed(dropout_state(slot.seed, slot.steps, self._world.rank))
        losses = []
        for number, batch in enumerate(part.micro_batches, start=1):
            sums = slot.gradients.add(batch, part.step_tokens, last=number == len(part.micro_batches))
            losses.append(BatchLosses.of(batch, sums))
        if part.spare is not None and self._world.size > 1:
            slot.gradients.add(part.spare, part.step_tokens, last=True, weight=0.0)
        slot.steps += 1
        return [Stepped(losses, slot.optimizer.step(part.lr))]

    @contextmanager
    def model_of(self, slot: _SingleTrial) -> Iterator[nn.Module]:
        """The model in evaluation mode inside, in training mode after."""
        slot.model.eval()
        try:
            yield slot.model
        finally:
            slot.model.train()

    def leave(self, slot: _SingleTrial) -> None:
        """Puts the base back as it was loaded."""
        assert slot is self._slot
        self._slot = None
        self._base.restore()

    def state(self, slot: _SingleTrial) -> dict[str, torch.Tensor]:
        """The weights that are trained and their optimizer's memory."""
        return slot.optimizer.state()

    def load(self, slot: _SingleTrial, state: dict[str, torch.Tensor], steps: int) -> None:
        """Goes on from a state."""
        slot.optimizer.load(state, steps)
        slot.steps = steps
