"""How long a training loop waits in checkpoints: one trial, in turn with and without them."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from trainables.checkpoints import checkpoint, training_state
from trainables.checkpoints.async_writer import Pending, Writer
from trainables.checkpoints.training_state import TrainingState
from trainables.config.trial_spec import TrialSpec
from trainables.training.hooks import Hooks
from trainables.training.loop import Loop
from trainables.training.trial_run import TrialRun

PARAMS = {"peak_lr": 2e-5, "warmup_fraction": 0.1, "decay_floor": 4e-6}
SIDES = ("async", "between", "none")  # written as lanes do; written between the steps; not written


class Epoch(NamedTuple):
    """Seconds until the last step, and those of waiting in checkpoints."""

    seconds: float
    stalled: float


def epoch(loop: Loop, data: Any, config: Any, writer: Writer, side: str, folder: Path) -> Epoch:
    """Trains a trial on one of `SIDES`; what it writes is removed."""
    stalled, pending = [0.0], Pending(writer)

    def write(tensors: checkpoint.Tensors, act: Callable[[checkpoint.Tensors], object]) -> None:
        pending.submit(tensors, act, pending.reserve(tensors))
        if side == "between":
            pending.settle()

    def timed(act: Callable[[], None]) -> None:
        started = time.perf_counter()
        if side != "none":
            act()
        stalled[0] += time.perf_counter() - started

    def on_checkpoint(step: int, model: nn.Module) -> None:
        def act() -> None:
            saved, place = checkpoint.weights_of(model), folder / f"step-{step}"
            write(saved.tensors, lambda tensors: checkpoint.save_weights(saved, tensors, place, {}))

        timed(act)

    # Not by `lane.trial_states`: it needs the client of object stores, which a machine for `make gpu` may lack.
    def keep(state: TrainingState) -> None:
        training_state.drop_earlier(training_state.write(folder / "state", state))

    def on_kept(step: int, learnt: checkpoint.Tensors) -> None:
        timed(lambda: write(learnt, lambda tensors: keep(TrainingState(step, tensors, {}))))

    hooks = Hooks(lambda records: None, on_checkpoint, lambda: False, on_kept)
    started = time.perf_counter()
    outcome = loop.train(TrialRun(data, TrialSpec(trial_id="timed", seed=0, params=PARAMS), config, hooks))
    seconds = time.perf_counter() - started
    pending.settle()
    assert outcome.state == "complete", outcome
    shutil.rmtree(folder, ignore_errors=True)
    return Epoch(seconds, stalled[0])


def summary(epochs: dict[str, list[Epoch]], steps: int, checkpoints: int) -> dict[str, Any]:
    """Medians over the rounds of each side."""
    step = statistics.median(one.seconds for one in epochs["none"]) / steps
    found: dict[str, Any] = {"step_seconds": round(step, 4), "steps_a_checkpoint": steps / checkpoints}
    for side, rounds in epochs.items():
        stall = statistics.median(one.stalled for one in rounds)
        found[side] = {
            "epoch_seconds": [round(one.seconds, 3) for one in rounds],
            "stall_seconds_a_checkpoint": round(stall / checkpoints, 4),
            "stall_share_of_steps": round(stall / (step * steps), 4),
        }
    return found
