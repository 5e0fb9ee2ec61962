"""What the training loop tells of a trial, and what it asks before each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from trainables.reliability.preemption import Preemption
from trainables.training.curve_recorder import StepRecord

State = Literal["complete", "diverged", "stopped", "preempted", "paused"]


@dataclass(frozen=True)
class Speed:
    """How fast a trial trained since the last report point.

    Attributes:
        step: Optimizer steps done.
        tokens: Tokens of the samples that these steps saw, prompts with responses, without padding.
        seconds: Time of these steps on each worker, above 0; trials that train together share it.
    """

    step: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the loop. An exception in a hook ends the trial.

    With several workers each calls its own: `steps` and `checkpoint` run on all, after the same steps and with the same
    records. A `should_stop` that is true on one worker stops all.

    Attributes:
        steps: Called at every report point with the steps since the last one.
        checkpoint: Called with the number of steps done and the model, in evaluation mode.
        should_stop: Asked before every step; no step is trained after True.
        save_state: Called after every checkpoint but the last, and before a preemption, with the number of steps done
            and the state to resume from, which the next step overwrites; None to save nothing.
        preemption: Polled before a step by all workers, once it is due on one.
        interrupted: Whether the trial is to stop and be resumed later: its state is saved, as before a preemption.
        speed: Called at every report point after `steps`, on all workers.
    """

    steps: Callable[[list[StepRecord]], None]
    checkpoint: Callable[[int, nn.Module], None]
    should_stop: Callable[[], bool]
    save_state: Callable[[int, dict[str, torch.Tensor]], None] | None = None
    preemption: Preemption = field(default_factory=Preemption)
    interrupted: Callable[[], bool] = lambda: False
    speed: Callable[[Speed], None] = lambda speed: None
