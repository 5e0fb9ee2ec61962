"""Input and result of a trial's optimizer step, shared by the engines and the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from trainables.data.dataset import Batch


class StepPart(NamedTuple):
    """One trial's input to a step."""

    micro_batches: Sequence[Batch]  # this worker's, on the host; none if a short last step leaves it without samples
    step_tokens: int  # label tokens of the trial's whole step, over all its micro-batches and workers
    lr: float  # LR of the update
    fillers: Sequence[Batch] = ()  # as many as other workers have micro-batches more; their losses don't count


class Stepped(NamedTuple):
    """Result of a trial's step, still on the device."""

    losses: list[BatchLosses]  # of this worker's micro-batches
    grad_norm: torch.Tensor  # scalar; the gradient's total L2 norm before clipping


class BatchLosses(NamedTuple):
    """Losses of a micro-batch."""

    ids: tuple[str, ...]  # its B samples
    tokens: list[int]  # label tokens of each
    sums: torch.Tensor  # (B,) float64 on the device; summed loss of each, in nats

    @classmethod
    def of(cls, batch: Batch, sums: torch.Tensor) -> BatchLosses:
        # Counted on the batch while it is on the host: counting on the GPU would wait for it.
        return cls(batch.ids, np.bincount(batch.label_item.numpy(), minlength=len(batch)).tolist(), sums)


class PassRanOutError(RuntimeError):
    """Memory ran out on a worker within a pass that is collective, so that the lane must end.

    Args:
        line: What the user is told.
        half: Tokens of micro-batches to try next; None where each was of one sample.
    """

    def __init__(self, line: str, half: int | None) -> None:
        super().__init__(line, half)  # both: Ray pickles an error by its arguments
        self.half = half

    def __str__(self) -> str:
        return str(self.args[0])


# Of trials of which a sample alone needs more memory than there is.
REMEDY_OF_ONE_SAMPLE = "set training.gradient_checkpointing=true, or lower data.max_tokens"


def largest_micro_batches(parts: Sequence[StepPart]) -> tuple[int, int]:
    """Tokens of a step's largest micro-batch, and of its largest of several samples: half of that is the next try.

    Returns:
        Each 0 where there is no such micro-batch.
    """
    batches = [batch for part in parts for batch in part.micro_batches]
    several = [batch for batch in batches if len(batch) > 1]
    largest, to_halve = (max((batch.tokens for batch in some), default=0) for some in (batches, several))
    return largest, to_halve


@contextmanager
def memory_ends_the_trial(parts: Sequence[StepPart]) -> Iterator[None]:
    """Context of passes that are collective.

    Raises:
        PassRanOutError: Memory ran out. The other workers wait within a pass for this one's part, so that no vote can
            be taken and no smaller step tried at once.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        largest, to_halve = largest_micro_batches(parts)
        rule = f"memory ran out on a worker of a sharded trial, with micro-batches of up to {largest} tokens"
        if half := to_halve // 2:
            remedy = f"set training.micro_batch_tokens to {half}, or more workers"
            raise PassRanOutError(f"{rule}: {remedy}", half) from error
        raise PassRanOutError(f"{rule}, a sample each: {REMEDY_OF_ONE_SAMPLE}, or use more workers", None) from error
