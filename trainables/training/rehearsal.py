"""Train a batch of the longest sample before a sweep spends anything: does it fit, and in what parts?

The trial's real code on the real device: the plan's forecast doesn't see what a GPU's allocator does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables.config.hyperparameters import with_params
from trainables.config.trial_spec import LaneConfig, TrialSpec
from trainables.data.dataset import Batch, TokenizedSet, collate
from trainables.evaluation.heldout import item_losses
from trainables.evaluation.scoring_workers import scoring_workers
from trainables.models.base_model import Base
from trainables.optim.workers import World
from trainables.training.loop import Hooks, Loop, TrialRun

STEPS = 2  # AdamW's moments are there from the second on
LR = {"peak_lr": 1e-6, "warmup_fraction": 0.0, "decay_floor": 1e-6}  # any: the base is restored


@dataclass(frozen=True)
class Rehearsal:
    """What the longest batch needs.

    Attributes:
        device: The device's name.
        memory_bytes: Its memory; None on CPUs.
        peak_bytes: The most that the allocator held of it, its cache included; None on CPUs.
        longest_tokens: Tokens of the longest sample.
        samples: Samples of a whole batch.
        slots: Trials side by side that fit.
        micro_batch_tokens: Most tokens that go through the model at once; None where whole batches fit.
        refusal: Why no trial fits; None where one does.
    """

    device: str
    memory_bytes: int | None
    peak_bytes: int | None
    longest_tokens: int
    samples: int
    slots: int
    micro_batch_tokens: int | None
    refusal: str | None = None


class Repeated:
    """A set's longest sample, many times; what the loop and the scoring read of a `TokenizedSet`."""

    def __init__(self, data: TokenizedSet, count: int) -> None:
        self._sample = data.sequence(int(np.argmax(data.lengths)))
        self.lengths = np.full(count, len(self._sample.input_ids))

    def __len__(self) -> int:
        return len(self.lengths)

    def label_mask(self, _: int) -> np.ndarray:
        return self._sample.label_mask

    def batch(self, indices: Iterable[int]) -> Batch:
        return collate([self._sample for _ in indices])


def rehearse(
    base: Base,
    data: TokenizedSet,
    areas: Mapping[str, TokenizedSet],
    config: LaneConfig,
    params: dict[str, float],
    slots: int,
    world: World,
) -> Rehearsal:
    """Train trials for two steps and score the longest held-out item; leaves the base as it was loaded. Collective.

    Args:
        base: The base model, unused by any trial.
        data: The training set.
        areas: The held-out areas.
        config: The sweep's sections.
        params: Of the largest trial: batch size, accumulation and rank where they are searched.
        slots: Trials side by side; one where trials can't be packed.
        world: The lane's workers.
    """
    training, lora = with_params(config.training, config.model.lora, params)
    whole = config.model_copy(update={"training": config.training.model_copy(update={"checkpoints_at": [1.0]})})
    # A batch on each worker: accumulation only repeats it.
    samples: Any = Repeated(data, STEPS * training.batch_size * training.gradient_accumulation * world.size)
    longest = max(areas.values(), key=lambda area: int(area.lengths.max()))
    tokens = config.heldout.batch_tokens
    items: Any = Repeated(longest, max(1, tokens // int(longest.lengths.max())))

    def score(_: int, model: nn.Module) -> None:
        with scoring_workers(model, world) as sharing, sharing.all_or_none():
            item_losses(model, items, tokens)

    loop, spec = Loop(base, world), TrialSpec(trial_id="rehearsal", seed=0, params={**params, **LR})
    hooks = Hooks(steps=lambda records: None, checkpoint=score, should_stop=lambda: False)
    loop.set_slots(1 if loop.obstacle(lora, training) else slots)
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(base.device)
    refusal = None
    runs = [TrialRun(samples, spec, whole, hooks, world) for _ in range(loop.slots)]
    try:
        _train(loop, runs)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        alone = world.size > 1 and not isinstance(error, torch.OutOfMemoryError)
        if alone or not _is_memory(error):
            raise  # of one worker alone: the others wait for it, and the lane must end
        refusal = str(error)
    limits = [run.micro_batch_tokens for run in runs if run.micro_batch_tokens is not None]
    loop.clear()
    return Rehearsal(
        **_memory(base.device),
        longest_tokens=int(samples.lengths[0]),
        samples=training.batch_size,
        slots=loop.slots,
        micro_batch_tokens=min(limits, default=None),
        refusal=refusal,
    )


def _train(loop: Loop, runs: list[TrialRun]) -> None:
    for run in runs:
        loop.join(run)
    while not loop.is_empty:
        for end in loop.step():
            if end.error:
                raise end.error


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or isinstance(error.__cause__, torch.OutOfMemoryError)


def _memory(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"device": "CPU", "memory_bytes": None, "peak_bytes": None}
    properties = torch.cuda.get_device_properties(device)
    peak = torch.cuda.max_memory_reserved(device)
    return {"device": properties.name, "memory_bytes": properties.total_memory, "peak_bytes": peak}
