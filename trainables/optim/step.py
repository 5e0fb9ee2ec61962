"""What a trial does in one optimizer step, and what the step gives back: shared by the engines and the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from trainables.data.dataset import Batch


class StepPart(NamedTuple):
    """What one trial does in a step.

    Attributes:
        micro_batches: This worker's, on the host; none if a short last step leaves it without samples.
        step_tokens: Label tokens of the trial's whole step, over all its micro-batches and workers.
        lr: LR of the update.
        spare: A batch of the step for a worker that has none of its own: it may run it, to keep in step with the
            others, at a weight of 0.
    """

    micro_batches: Sequence[Batch]
    step_tokens: int
    lr: float
    spare: Batch | None = None


class Stepped(NamedTuple):
    """What a trial's step gave, still on the device.

    Attributes:
        losses: Of this worker's micro-batches.
        grad_norm: Scalar; the gradient's total L2 norm before clipping.
    """

    losses: list[BatchLosses]
    grad_norm: torch.Tensor


class BatchLosses(NamedTuple):
    """What is kept of a micro-batch.

    Attributes:
        ids: Its B samples.
        tokens: Label tokens of each.
        sums: (B,) float64 on the device; summed loss of each, in nats.
    """

    ids: tuple[str, ...]
    tokens: list[int]
    sums: torch.Tensor

    @classmethod
    def of(cls, batch: Batch, sums: torch.Tensor) -> BatchLosses:
        """Of a batch that is still on the host."""
        return cls(batch.ids, np.bincount(batch.label_item.numpy(), minlength=len(batch)).tolist(), sums)
