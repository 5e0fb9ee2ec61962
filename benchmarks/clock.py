"""The stopwatch of the training benchmarks, for this project's loop and for Hugging Face's `Trainer`."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import TrainerCallback


class Clock:
    """Times an epoch's steps after the first `warm_up_steps`.

    Attributes:
        seconds: Wall time of the timed steps, after `stop`.
        cpu_seconds: CPU time of the process in them, over all threads; insensitive to the load of other processes.
        waste: The part of a pack's rows without a token of a sample; the packed side sets it.
    """

    def __init__(self, warm_up_steps: int) -> None:
        self.seconds = self.cpu_seconds = self.waste = 0.0
        self._steps, self._warm_up_steps = 0, warm_up_steps
        self._started = (0.0, 0.0)

    def step_begins(self) -> bool:
        """Call before every step; returns False, to serve as `Hooks.should_stop`."""
        if self._steps == self._warm_up_steps:
            self._started = self._now()
        self._steps += 1
        return False

    def stop(self) -> None:
        """Call after the last step."""
        wall, cpu = self._now()
        self.seconds, self.cpu_seconds = wall - self._started[0], cpu - self._started[1]

    @staticmethod
    def _now() -> tuple[float, float]:
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # kernels run after the calls that queued them have returned
        return time.perf_counter(), time.process_time()


class ClockCallback(TrainerCallback):
    """Times the steps of `Trainer`."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_begin(self, *args: Any, **more: Any) -> None:
        self.clock.step_begins()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == state.max_steps:
            self.clock.stop()
