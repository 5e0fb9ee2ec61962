"""Input and result of a trial's optimizer step, shared by the engines and the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from trainables.data.dataset import Batch


class StepPart(NamedTuple):
    """One trial's input to a step.

    Attributes:
        micro_batches: This worker's, on the host; none if a short last step leaves it without samples.
        step_tokens: Label tokens of the trial's whole step, over all its micro-batches and workers.
        lr: LR of the update.
        spare: A batch for a worker without one, to run at weight 0 where the collective needs every worker.
    """

    micro_batches: Sequence[Batch]
    step_tokens: int
    lr: float
    spare: Batch | None = None


class Stepped(NamedTuple):
    """Result of a trial's step, still on the device.

    Attributes:
        losses: Of this worker's micro-batches.
        grad_norm: Scalar; the gradient's total L2 norm before clipping.
    """

    losses: list[BatchLosses]
    grad_norm: torch.Tensor


class BatchLosses(NamedTuple):
    """Losses of a micro-batch.

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
        # Counted on the batch while it is on the host: counting on the GPU would wait for it.
        return cls(batch.ids, np.bincount(batch.label_item.numpy(), minlength=len(batch)).tolist(), sums)
