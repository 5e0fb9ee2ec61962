"""A pack: several LoRA trials on one frozen base model, stepped together and independent of each other.

Each trial has a slot with its own adapter, AdamW, LR, clipping threshold, step count and position in its epoch. Slots
come and go between steps.

    pack = Pack(base)
    slot = pack.join(lora, training, seed)
    (stepped,) = pack.step([StepPart(micro_batches, step_tokens, lr)])
    with pack.model_of(slot) as model:
        checkpoint.save(model, folder, meta)
    pack.leave(slot)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from peft import PeftModel

from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.data.dataset import Batch
from trainables.errors import UserError
from trainables.models.base_model import Base
from trainables.optim.step import BatchLosses, StepPart, Stepped, memory_ends_the_trial
from trainables.optim.workers import SOLO, World, dropout_state
from trainables.packing.adamw import SlotUpdate
from trainables.packing.adapters import AdapterStack, AdapterState
from trainables.packing.batches import pack_batches
from trainables.packing.eligibility import Packable
from trainables.packing.layers import Dropout
from trainables.packing.model import PackedModel, read_adapter, write_adapter

__all__ = ["Pack", "Slot", "StepPart", "Stepped", "SuspendedTrial"]


@dataclass(eq=False)
class Slot:
    """One trial in a pack."""

    lora: LoraConfig  # its adapter's settings
    training: TrainingConfig  # its training section with the searched values
    seed: int  # of its adapter's initial weights and its dropout
    steps: int = 0  # optimizer steps done


class SuspendedTrial(NamedTuple):
    """A trial taken out of a pack, ready to resume in any pack on the same base model."""

    slot: Slot
    state: AdapterState


class Pack:
    """The slots of one lane. Carries its layers on the base's model until `close`.

    With several workers each has a pack; all call the same methods at the same time.

    Args:
        base: The base model.
        world: The workers that share every trial.

    Attributes:
        slots: In the order of `step`.
        device: Device of the base.
        rows: Rows run through the frozen weights so far, with fillers and padding.
        tokens: Tokens of samples among them.
    """

    def __init__(self, base: Base, world: World = SOLO) -> None:
        self.slots: list[Slot] = []
        self.device = base.device
        self.rows = self.tokens = 0
        self._base, self._world = base, world
        self._model, self._packable = PackedModel(base), Packable(base)
        self._stack = AdapterStack()

    def obstacle(self, lora: LoraConfig, training: TrainingConfig) -> str | None:
        """The reason why trials with these settings can't be packed; None if they can."""
        with self._without_layers():
            return self._packable.obstacle(lora, training)

    def join(self, lora: LoraConfig, training: TrainingConfig, seed: int) -> Slot:
        """Add a slot as the last, with exactly the initial adapter that `Base.prepare` draws.

        Raises:
            UserError: The trial can't be packed, or `lora.target_modules` names layers that the model doesn't have.
            ValueError: It adapts other layers than the present slots.
        """
        with self._without_layers():
            if reason := self._packable.obstacle(lora, training):
                raise UserError("trials_per_lane", "must be 1 for trials that can't be packed", reason, "set it to 1")
            adapter = read_adapter(self._prepared(lora, seed))
            state = AdapterState.fresh(adapter, lora.alpha / lora.r)
        return self.resume(SuspendedTrial(Slot(lora, training, seed), state))

    def resume(self, suspended: SuspendedTrial) -> Slot:
        """Add a suspended trial as the last slot.

        Raises:
            ValueError: It adapts other layers than the present slots.
        """
        with self._without_layers():
            self._stack.add(suspended.state)
            self.slots.append(suspended.slot)
        return suspended.slot

    def leave(self, slot: Slot) -> SuspendedTrial:
        """Remove a slot with all its state; later slots move up."""
        with self._without_layers():
            place = self.slots.index(slot)
            return SuspendedTrial(self.slots.pop(place), self._stack.take(place))

    def step(self, parts: Sequence[StepPart]) -> list[Stepped]:
        """Train every slot by one optimizer step, each with its part, without waiting for a GPU.

        When memory runs out, on any worker, every slot is unchanged on all and can still leave and resume.
        """
        assert len(parts) == len(self.slots) > 0
        losses: list[list[BatchLosses]] = [[] for _ in parts]
        with memory_ends_the_trial(parts) if self._base.is_sharded else self._world.all_or_none():
            work = self._stack.working_copy(self._model.plan.autocast)
            # (slots, P), fp32: micro-batches add up without rounding to bf16.
            gradient = torch.zeros_like(self._stack.weights)
            dropouts = self._dropouts()
            for number in range(max(len(part.micro_batches) for part in parts)):
                # Slots accumulate over different numbers of micro-batches; those that are done sit out.
                present = [place for place, part in enumerate(parts) if number < len(part.micro_batches)]
                batches = [parts[place].micro_batches[number] for place in present]
                self.tokens += sum(batch.tokens for batch in batches)
                sums, found = self._micro_step(
                    batches,
                    [parts[place].step_tokens for place in present],
                    work if len(present) == len(parts) else torch.stack([work[place] for place in present]),
                    [dropouts[place] for place in present] if dropouts else [],
                )
                for place, batch, batch_sums, row in zip(present, batches, sums, found, strict=True):
                    losses[place].append(BatchLosses.of(batch, batch_sums))
                    gradient[place] += row
            for part in parts:
                for filler in part.fillers:  # of a sharded base, with one slot
                    self._micro_step([filler], [part.step_tokens], work, dropouts)
        # Sums over workers are right, not means: label weights count the tokens of all workers.
        if self._world.size > 1:
            dist.all_reduce(gradient)
        try:
            norms = self._stack.update(gradient, [_update(*pair) for pair in zip(self.slots, parts, strict=True)])
        except torch.OutOfMemoryError as error:
            if self._world.size == 1:
                raise
            raise RuntimeError("memory ran out in the update of one worker alone") from error
        for slot in self.slots:
            slot.steps += 1
        return [Stepped(*pair) for pair in zip(losses, norms, strict=True)]

    @contextmanager
    def model_of(self, slot: Slot) -> Iterator[PeftModel]:
        """Context manager: the base with this slot's adapter, in evaluation mode, for scoring or saving."""
        state = self._stack.state(self.slots.index(slot))
        with self._without_layers():
            model = self._prepared(slot.lora, slot.seed).eval()
            write_adapter(model, state.layout.adapter(state.rows[0]))
            yield model

    def state(self, slot: Slot) -> dict[str, torch.Tensor]:
        """Copy a slot's adapter and AdamW's two running means."""
        return {"rows": self._stack.state(self.slots.index(slot)).rows}

    def load(self, slot: Slot, state: dict[str, torch.Tensor], steps: int) -> None:
        """Set the last slot to a saved state after `steps` optimizer steps.

        Raises:
            ValueError: The state is of another adapter.
        """
        assert slot is self.slots[-1]
        suspended = self.leave(slot)
        rows = state["rows"].to(suspended.state.rows)
        if rows.shape != suspended.state.rows.shape:
            raise ValueError(f"a state of shape {tuple(rows.shape)} is not of this adapter")
        slot.steps = steps
        self.resume(SuspendedTrial(slot, replace(suspended.state, rows=rows)))

    def close(self) -> None:
        """Drop all slots and leave the base as it was loaded."""
        self._model.uninstall()
        self.slots, self._stack = [], AdapterStack()

    def _micro_step(
        self, batches: list[Batch], step_tokens: list[int], adapters: torch.Tensor, dropouts: list[Dropout]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        assert self._stack.layout is not None
        packed = pack_batches(batches, self._model.plan.longest_flat, self._model.plan.pad_id)
        counts = [batch.label_tokens for batch in batches]
        # (labels,): 1 / tokens of the slot's step, so that each slot's weighted sum is the mean loss of its step.
        label_weights = torch.from_numpy(np.repeat(1.0 / np.array(step_tokens, np.float64), counts))
        self.rows += packed.slots * packed.rows
        return self._model.run(packed, self._stack.layout, adapters, dropouts, label_weights)

    def _dropouts(self) -> list[Dropout]:
        """This step's dropout of every slot; empty if no slot drops anything."""
        if not any(slot.lora.dropout for slot in self.slots):
            return []
        rank, device = self._world.rank, self._model.device
        return [Dropout(slot.lora.dropout, dropout_state(slot.seed, slot.steps, rank), device) for slot in self.slots]

    def _prepared(self, lora: LoraConfig, seed: int) -> PeftModel:
        model = self._base.prepare(lora, seed)
        assert isinstance(model, PeftModel)
        return model

    @contextmanager
    def _without_layers(self) -> Iterator[None]:
        """Context in which the base carries none of the pack's layers."""
        self._model.uninstall()
        try:
            yield
        finally:
            self._base.restore()
            if self._stack.layout:
                self._model.install(list(self._stack.layout.features))


def _update(slot: Slot, part: StepPart) -> SlotUpdate:
    own = slot.training
    return SlotUpdate(
        slot.steps + 1, part.lr, own.beta1, own.beta2, own.eps, own.weight_decay, max_grad_norm=own.max_grad_norm
    )
