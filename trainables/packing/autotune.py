"""Measure how many trials a lane should train together, on its own device with the sweep's own samples."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import psutil
import torch

from trainables.config.trial_spec import LaneConfig
from trainables.data.dataset import TokenizedSet
from trainables.data.epoch import epoch_order, plan_epoch, split_by_tokens, split_for_worker, step_indices
from trainables.models.base_model import Base
from trainables.optim.step import StepPart
from trainables.packing.pack import Pack
from trainables.reliability import watchdog

logger = logging.getLogger(__name__)

CHOICES = (1, 2, 4, 8, 16)  # numbers of slots tried, in this order
WORTH = 1.05  # factor of throughput that justifies more slots; our choice
PATIENCE = 2  # larger numbers in a row that are not worth it before the search ends: one may be a slow moment
ROOM = 0.9  # share of the device's memory for a pack; the rest is for scoring and longer batches

TIMED_STEPS = 5


@dataclass(frozen=True)
class Slots:
    """The chosen number of slots and the measurement behind it."""

    slots: int  # trials to train together
    obstacle: str | None  # why trials can't be packed; None if they can
    seconds_per_step: dict[int, float]  # median time of a step of all slots, by number of slots

    @property
    def speed_up(self) -> float | None:
        """Throughput relative to one slot; None where not measured."""
        one, all_of_them = self.seconds_per_step.get(1), self.seconds_per_step.get(self.slots)
        return self.slots * one / all_of_them if one and all_of_them else None


def measure_slots(base: Base, data: TokenizedSet, config: LaneConfig, asked: int | Literal["auto"]) -> Slots:
    """Choose the number of slots; leaves the base as it was loaded.

    Args:
        base: The base model, unused by any trial.
        data: The training set.
        config: The sweep's sections.
        asked: Number of slots to use if trials can be packed; "auto" measures.
    """
    pack = Pack(base)
    try:
        if obstacle := pack.obstacle(config.model.lora, config.training):
            return Slots(1, obstacle, {})
        if asked != "auto":
            return Slots(asked, None, {})
        seconds = _measured(pack, data, config)
    finally:
        pack.close()
    return Slots(fastest(seconds), None, seconds)


def fastest(seconds: Mapping[int, float]) -> int:
    """The smallest number of slots whose throughput is the highest up to `WORTH`.

    Args:
        seconds: Of a step of all slots, by number of slots.
    """
    throughput = {slots: slots / taken for slots, taken in seconds.items()}
    return min((slots for slots in seconds if throughput[slots] * WORTH > max(throughput.values())), default=1)


def is_over(seconds: Mapping[int, float]) -> bool:
    """Whether larger numbers of slots need not be tried: the last `PATIENCE` were not worth it.

    Args:
        seconds: As for `fastest`, by ascending number of slots.
    """
    throughput = [slots / taken for slots, taken in seconds.items()]
    before, last = throughput[:-PATIENCE], throughput[-PATIENCE:]
    return bool(before) and max(last) < WORTH * max(before)


def _measured(pack: Pack, data: TokenizedSet, config: LaneConfig) -> dict[int, float]:
    """Seconds of a step by number of slots, up to where more slots don't help or don't fit."""
    seconds: dict[int, float] = {}
    for slots in CHOICES:
        while len(pack.slots) < slots:
            pack.join(config.model.lora, config.training, seed=len(pack.slots))
        try:
            found = _step_seconds(pack, data, config)
        except torch.OutOfMemoryError:
            found = None
        if found is None:
            break
        seconds[slots] = found
        if is_over(seconds):
            break
    return seconds


def _step_seconds(pack: Pack, data: TokenizedSet, config: LaneConfig) -> float | None:
    """Median seconds of a step, each slot at another position in the epoch; None if memory gets short."""
    parts = _parts(data, config)
    longest = sorted(parts, key=lambda part: -sum(batch.tokens for batch in part.micro_batches))
    device = pack.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    slots = len(pack.slots)
    pack.step(_some(longest, 0, slots))  # the largest batches first: if these fit, all do; also the warm-up
    times = []
    for step in range(TIMED_STEPS):
        _wait_for(device)
        started = time.perf_counter()
        pack.step(_some(parts, step * slots, slots))
        watchdog.beat()
        _wait_for(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times) if _memory_used(device) <= ROOM else None


def _parts(data: TokenizedSet, config: LaneConfig) -> list[StepPart]:
    """Steps of an epoch at LR 0."""
    epoch = plan_epoch(len(data), config.training)
    order = epoch_order(len(data), 0)
    parts, most = [], config.training.micro_batch_tokens
    for step in range(min(epoch.steps, TIMED_STEPS * max(CHOICES))):
        indices = step_indices(order, step, epoch.samples_per_step)
        tokens = sum(int(np.count_nonzero(data.label_mask(i))) for i in indices)
        own = split_for_worker(indices, 0, 1, config.training.batch_size)
        own = split_by_tokens(own, data.lengths, None if most == "auto" else most)
        parts.append(StepPart([data.batch(part) for part in own], tokens, lr=0.0))
    return parts


def _some(parts: Sequence[StepPart], first: int, count: int) -> list[StepPart]:
    """Take `count` parts from `first` on, wrapping around."""
    return [parts[(first + number) % len(parts)] for number in range(count)]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory_used(device: torch.device) -> float:
    """Peak share of the device's memory in use."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().percent / 100.0
