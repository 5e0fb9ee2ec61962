"""Train trials for one epoch each, every sample seen once, several at a time if they can be packed.

`Loop.step` is the main path. Losses stay on the device until a report point, so that no step waits for a GPU.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from trainables.config.sections import LoraConfig, TrainingConfig
from trainables.models.base_model import Base
from trainables.optim.step import REMEDY_OF_ONE_SAMPLE, StepPart, Stepped, largest_micro_batches
from trainables.optim.workers import SOLO, World
from trainables.packing.pack import Pack, SuspendedTrial
from trainables.reliability import watchdog
from trainables.training.engine import SingleTrialEngine
from trainables.training.hooks import Hooks, State
from trainables.training.sharded_engine import engine_of_one
from trainables.training.trial_run import Outcome, TrialRun

__all__ = ["Ended", "Hooks", "Loop", "Outcome", "TrialRun"]

logger = logging.getLogger(__name__)

Engine = Pack | SingleTrialEngine


class Ended(NamedTuple):
    """A trial that has left the loop."""

    trial_run: TrialRun
    outcome: Outcome | None  # how it ended; None after an error
    error: Exception | None = None  # the error that one of its hooks raised


class Loop:
    """Trains trials together, each independent of the others. Trials come and go between steps.

    A trial's curve depends on the trial only: a base that has served other trials gives the same curve, to the bit, as
    a fresh one. Neighbors and padding only change how sums are rounded.

        outcome = Loop(base).train(TrialRun(data, spec, config, hooks))

    Args:
        base: The base model; as it was loaded while no trial is in training.
        world: The workers that share every trial.

    Attributes:
        slots: Most trials at a time.
    """

    def __init__(self, base: Base, world: World = SOLO) -> None:
        self.slots, self._most = 1, sys.maxsize
        self._micro_batch_tokens: int | None = None
        self._base, self._world = base, world
        self._pack = Pack(base, world)
        self._single = engine_of_one(base, world)
        self._engine: Engine = self._pack
        self._running: list[tuple[TrialRun, Any]] = []
        self._suspended: list[tuple[TrialRun, SuspendedTrial]] = []

    @property
    def free(self) -> int:
        """Number of trials that can join now."""
        return max(0, self.slots - len(self._running) - len(self._suspended))

    @property
    def is_empty(self) -> bool:
        return not self._running and not self._suspended

    @property
    def rows(self) -> tuple[int, int]:
        """Packed rows computed so far, with padding and fillers, and how many of them held a sample's token."""
        return self._pack.rows, self._pack.tokens

    def obstacle(self, lora: LoraConfig, training: TrainingConfig) -> str | None:
        """The reason why trials with these settings can't be packed; None if they can."""
        return self._pack.obstacle(lora, training)

    def set_slots(self, slots: int) -> None:
        """Set the number of trials at a time, up to the limit that memory has shown.

        Args:
            slots: At least 1. More than one admits only trials that can be packed.
        """
        self.slots = min(slots, self._most)

    def join(self, trial_run: TrialRun) -> None:
        """Add a trial, which trains from the next step on.

        Raises:
            UserError: It can't be packed though there are several slots, or its settings don't fit the model.
        """
        assert self.free, "no slot is free"
        assert trial_run.world == self._world, "a loop and its trials have the same workers"
        started = time.monotonic()
        if self.is_empty:
            # With several slots the pack itself raises, with the reason, for a trial that can't be
            # packed.
            packs = self.slots > 1 or self.obstacle(trial_run.lora, trial_run.training) is None
            self._engine = self._pack if packs else self._single
        trial_run.limit_micro_batches(self._micro_batch_tokens)
        trial_run.keeps_step = self._base.is_sharded
        slot: Any = self._engine.join(trial_run.lora, trial_run.training, trial_run.spec.seed)
        if trial_run.resume_state is not None:
            self._engine.load(slot, trial_run.resume_state, trial_run.step)
            trial_run.resume_state = None
        self._running.append((trial_run, slot))
        trial_run.worker_seconds += time.monotonic() - started

    def step(self) -> list[Ended]:
        """Train every trial by one optimizer step; when trials are to end, they leave instead and make room.

        Returns:
            The trials that ended. Diverged and stopped ones write no further checkpoint.

        Raises:
            torch.OutOfMemoryError: A single trial needs more memory than there is for one sample.
        """
        ended = self._each(self._end_if_requested)
        if ended or not self._running:
            return ended
        started = time.monotonic()
        stepped = self._steps()
        ended += self._each(lambda trial_run, slot: trial_run.record_step(stepped[slot]) if slot in stepped else None)
        # Trials of a packed step can't be timed separately: each is charged an equal share.
        share = (time.monotonic() - started) / max(1, len(stepped))
        ended += self._each(lambda trial_run, slot: trial_run.add_step_time(share) if slot in stepped else None)
        return ended + self._each(
            lambda trial_run, slot: self._after_step(trial_run, slot) if slot in stepped else None
        )

    def train(self, trial_run: TrialRun) -> Outcome:
        """Train one trial to its end: the library's entry for a single trial.

        Raises:
            UserError: The adapter's settings don't fit the model.
        """
        self.join(trial_run)
        ended: list[Ended] = []
        while not ended:
            ended = self.step()
        if ended[0].error:
            raise ended[0].error
        assert ended[0].outcome is not None
        return ended[0].outcome

    def clear(self) -> None:
        """Drop all trials after an error of the step itself, and restore the base."""
        self._running, self._suspended = [], []
        self._pack.close()
        self._single = engine_of_one(self._base, self._world)
        self._base.restore()

    def _steps(self) -> dict[Any, Stepped]:
        """Results by slot; empty if memory ran out, and the next try needs less."""
        with self._world.all_or_none():
            parts = [trial_run.next_step() for trial_run, _ in self._running]
        try:
            steps = self._engine.step(parts)
            watchdog.step_done()
        except torch.OutOfMemoryError:
            steps = []
        # Outside the handler, whose traceback keeps the failed step's tensors alive.
        if not steps:
            self._use_less_memory(parts)
            return {}
        return {slot: stepped for (_, slot), stepped in zip(self._running, steps, strict=True)}

    def _end_if_requested(self, trial_run: TrialRun, slot: Any) -> Ended | None:
        state = trial_run.requested_end()
        if state is None:
            return None
        trial_run.report()
        if state == "preempted":
            self._save_state(trial_run, slot)
        return self._end(trial_run, slot, state)

    def _after_step(self, trial_run: TrialRun, slot: Any) -> Ended | None:
        if trial_run.diverged:
            return self._end(trial_run, slot, "diverged")
        if trial_run.checkpoint_is_due:
            started = time.monotonic()
            with self._engine.model_of(slot) as model:
                trial_run.hooks.checkpoint(trial_run.step, model)
            self._save_state(trial_run, slot)
            trial_run.worker_seconds += time.monotonic() - started
        return self._end(trial_run, slot, "complete") if trial_run.step == trial_run.epoch.steps else None

    def _save_state(self, trial_run: TrialRun, slot: Any) -> None:
        if trial_run.hooks.save_state and trial_run.saved_at < trial_run.step < trial_run.epoch.steps:
            trial_run.hooks.save_state(trial_run.step, trial_run.with_limit(self._engine.state(slot)))
            trial_run.saved_at = trial_run.step

    def _each(self, act: Callable[[TrialRun, Any], Ended | None]) -> list[Ended]:
        """Call `act` for every running trial; a trial that raises ends, the others go on."""
        ended = []
        for trial_run, slot in list(self._running):
            try:
                if end := act(trial_run, slot):
                    ended.append(end)
            except Exception as error:  # noqa: BLE001 - handed to the caller in `Ended`
                self._leave(trial_run, slot)
                ended.append(Ended(trial_run, None, error))
        return ended

    def _end(self, trial_run: TrialRun, slot: Any, state: State) -> Ended:
        self._leave(trial_run, slot)
        return Ended(trial_run, trial_run.outcome(state))

    def _leave(self, trial_run: TrialRun, slot: Any) -> None:
        """Remove a trial; a suspended one resumes in its place."""
        self._engine.leave(slot)
        self._running.remove((trial_run, slot))
        if self._suspended and len(self._running) < self.slots:
            waiting, suspended = self._suspended.pop(0)
            self._running.append((waiting, self._pack.resume(suspended)))

    def _use_less_memory(self, parts: list[StepPart]) -> None:
        """Halve the micro-batches; where each is of one sample already, train fewer trials at a time. Collective."""
        # Of all workers: each must split its samples by the same rule.
        largest, to_halve = map(self._world.highest, largest_micro_batches(parts))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # blocks of other sizes, which are of no use to smaller micro-batches
        if half := to_halve // 2:
            self._micro_batch_tokens = half
            for trial_run, _ in self._running:
                trial_run.limit_micro_batches(self._micro_batch_tokens)
            logger.warning("memory ran out: micro-batches have at most %d tokens from here on", half)
        elif len(self._running) > 1:
            self._halve()
        else:
            rule = f"a sample of {largest} tokens alone does not fit into the device's memory"
            raise torch.OutOfMemoryError(f"{rule}: {REMEDY_OF_ONE_SAMPLE}")

    def _halve(self) -> None:
        """Suspend the later half of the trials; they resume from the same step when others have ended."""
        before = len(self._running)
        # The lower limit holds for later trials too: they would run out of memory the same way.
        self.slots = self._most = before // 2
        for trial_run, slot in self._running[self.slots :]:
            self._suspended.append((trial_run, self._pack.leave(slot)))
        del self._running[self.slots :]
        # Single samples were too much for all trials together; for half of them whole batches may not be.
        self._micro_batch_tokens = None
        for trial_run, _ in [*self._running, *self._suspended]:
            trial_run.forget_limit()
        logger.warning("memory ran out with %d trials at a time: the lane goes on with %d", before, self.slots)
