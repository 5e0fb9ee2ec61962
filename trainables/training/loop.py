"""One epoch a trial, every sample seen once; several trials at a time if they can be packed. Knows neither Ray nor W&B.

`Loop.step` is the story. Losses stay on the device until a report point, so that no step waits for a GPU.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import TokenizedSet
from trainables.evaluation.base_losses import BaseLosses
from trainables.models.base_model import Base
from trainables.optim.step import Stepped
from trainables.optim.workers import SOLO, World
from trainables.packing.pack import Pack, SuspendedTrial
from trainables.reliability import watchdog
from trainables.training.engine import Engine, SingleTrialEngine
from trainables.training.trial_run import Hooks, Outcome, State, TrialRun

__all__ = ["Ended", "Hooks", "Loop", "Outcome", "TrialRun", "train"]

logger = logging.getLogger(__name__)


class Ended(NamedTuple):
    """A trial that is no longer trained.

    Attributes:
        trial_run: The trial.
        outcome: How it ended; None if by an error.
        error: The error, one of its hooks'.
    """

    trial_run: TrialRun
    outcome: Outcome | None
    error: Exception | None = None


class Loop:
    """Trains trials side by side, each exactly as if it were alone. They come and go between steps.

    The curve of a trial depends on the trial alone: a base that has served others gives the same one, to the bit, as a
    fresh base; neighbours and padding show only in how sums are rounded.

    Args:
        base: The base model; as it was loaded whenever no trial is being trained.
        world: The workers that share every trial.

    Attributes:
        slots: Most trials at a time.
    """

    def __init__(self, base: Base, world: World = SOLO) -> None:
        self.slots, self._most = 1, sys.maxsize
        self._base, self._world = base, world
        self._pack, self._alone = Pack(base, world), SingleTrialEngine(base, world)
        self._engine: Engine = self._pack
        self._running: list[tuple[TrialRun, Any]] = []
        self._parked: list[tuple[TrialRun, SuspendedTrial]] = []

    @property
    def free(self) -> int:
        """Trials that can join now."""
        return max(0, self.slots - len(self._running) - len(self._parked))

    @property
    def is_empty(self) -> bool:
        """Whether no trial is under way."""
        return not self._running and not self._parked

    @property
    def rows(self) -> tuple[int, int]:
        """Packed rows computed so far, padding and fillers included, and how many of them held a sample's token."""
        return self._pack.rows, self._pack.tokens

    def set_slots(self, slots: int) -> None:
        """From now on so many trials at a time, unless memory has been found to hold fewer.

        Args:
            slots: At least 1. More than one takes trials that can be packed.
        """
        self.slots = min(slots, self._most)

    def join(self, trial_run: TrialRun) -> None:
        """Takes a trial in; it trains from the next step on.

        Raises:
            UserError: It can't be packed though there are several slots, or its settings don't fit the model.
        """
        assert self.free, "no slot is free"
        started = time.monotonic()
        if self.is_empty:
            packs = self.slots > 1 or self._pack.obstacle(trial_run.lora) is None
            self._engine = self._pack if packs else self._alone
        slot = self._engine.join(trial_run.lora, trial_run.training, trial_run.spec.seed)
        if trial_run.learnt is not None:
            self._engine.load(slot, trial_run.learnt, trial_run.step)
            trial_run.learnt = None
        self._running.append((trial_run, slot))
        trial_run.worker_seconds += time.monotonic() - started

    def step(self) -> list[Ended]:
        """Trains every trial by one optimizer step; if any is told to end, these leave instead, and make room.

        Returns:
            The trials that ended: diverged and stopped ones write no further checkpoint.

        Raises:
            torch.OutOfMemoryError: One trial alone needs more memory than there is.
        """
        ended = self._each(self._end_if_told)
        if ended or not self._running:
            return ended
        started = time.monotonic()
        stepped = self._steps()
        ended += self._each(lambda trial_run, slot: trial_run.record_step(stepped[slot]) if slot in stepped else None)
        share = (time.monotonic() - started) / max(1, len(stepped))
        for trial_run, slot in self._running:
            trial_run.worker_seconds += share if slot in stepped else 0.0
        return ended + self._each(
            lambda trial_run, slot: self._after_step(trial_run, slot) if slot in stepped else None
        )

    def train(self, trial_run: TrialRun) -> Outcome:
        """Trains one trial, alone, to its end.

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
        """Drops all trials, after an error that was not one trial's own; the base is as it was loaded."""
        self._running, self._parked = [], []
        self._pack.close()
        self._alone = SingleTrialEngine(self._base, self._world)
        self._base.restore()

    def _steps(self) -> dict[Any, Stepped]:
        """What the step gave, by slot; nothing if memory ran out and there are fewer trials now."""
        parts = [trial_run.next_step() for trial_run, _ in self._running]
        try:
            steps = self._engine.step(parts)
            watchdog.step_done()
        except torch.OutOfMemoryError:
            if len(self._running) == 1:
                raise
            steps = []
        if not steps:  # only here has the failed step let go of its tensors
            self._halve()
            return {}
        return {slot: stepped for (_, slot), stepped in zip(self._running, steps, strict=True)}

    def _end_if_told(self, trial_run: TrialRun, slot: Any) -> Ended | None:
        state = trial_run.requested_end()
        if state is None:
            return None
        trial_run.report()
        if state == "preempted":
            self._keep(trial_run, slot)
        return self._end(trial_run, slot, state)

    def _after_step(self, trial_run: TrialRun, slot: Any) -> Ended | None:
        if trial_run.diverged:
            return self._end(trial_run, slot, "diverged")
        if trial_run.checkpoint_is_due:
            started = time.monotonic()
            with self._engine.model_of(slot) as model:
                trial_run.hooks.checkpoint(trial_run.step, model)
            self._keep(trial_run, slot)
            trial_run.worker_seconds += time.monotonic() - started
        return self._end(trial_run, slot, "complete") if trial_run.step == trial_run.epoch.steps else None

    def _keep(self, trial_run: TrialRun, slot: Any) -> None:
        if trial_run.hooks.keep and trial_run.kept_at < trial_run.step < trial_run.epoch.steps:
            trial_run.hooks.keep(trial_run.step, self._engine.state(slot))
            trial_run.kept_at = trial_run.step

    def _each(self, act: Callable[[TrialRun, Any], Ended | None]) -> list[Ended]:
        """Does something with every running trial. One that raises ends, alone."""
        ended = []
        for trial_run, slot in list(self._running):
            try:
                if end := act(trial_run, slot):
                    ended.append(end)
            except Exception as error:  # noqa: BLE001 - not lost: the caller gets it with the trial
                self._leave(trial_run, slot)
                ended.append(Ended(trial_run, None, error))
        return ended

    def _end(self, trial_run: TrialRun, slot: Any, state: State) -> Ended:
        self._leave(trial_run, slot)
        return Ended(trial_run, trial_run.outcome(state))

    def _leave(self, trial_run: TrialRun, slot: Any) -> None:
        """Takes a trial out; one that had to make room goes on in its place."""
        self._engine.leave(slot)
        self._running.remove((trial_run, slot))
        if self._parked and len(self._running) < self.slots:
            waiting, suspended = self._parked.pop(0)
            self._running.append((waiting, self._pack.resume(suspended)))

    def _halve(self) -> None:
        """Makes room: the later half of the trials leaves, to go on from the same step when others have ended."""
        before = len(self._running)
        self.slots = self._most = before // 2
        for trial_run, slot in self._running[self.slots :]:
            self._parked.append((trial_run, self._pack.leave(slot)))
        del self._running[self.slots :]
        logger.warning("memory ran out with %d trials at a time: the lane goes on with %d", before, self.slots)


def train(
    base: Base,
    data: TokenizedSet,
    spec: TrialSpec,
    config: LaneConfig,
    hooks: Hooks,
    world: World = SOLO,
    base_losses: BaseLosses | None = None,
) -> Outcome:
    """Trains one trial for one epoch; afterwards the base is as it was loaded. The arguments are those of `TrialRun`.

    Raises:
        UserError: The LR schedule does not fit the params or the number of steps, or the adapter not the model.
    """
    return Loop(base, world).train(TrialRun(data, spec, config, hooks, world, base_losses))
