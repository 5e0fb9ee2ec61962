"""The workers that share out the scoring of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from trainables.models.sharding.shards import gathered, gathered_bytes, is_sharded
from trainables.optim.workers import SOLO, World

# Memory left for scoring itself beside gathered weights; ours: the logits of some thousand labels, and keys and values.
SCORING_BYTES = 8 << 30


@contextmanager
def scoring_workers(model: nn.Module, world: World) -> Iterator[World]:
    """Yield the workers among which a model's items may be shared out. Collective.

    Of a sharded model every worker gathers all weights meanwhile. Where they don't fit into the memory of one, each
    yields itself alone: all then score all items, in the same batches, for every pass is collective.
    """
    if not is_sharded(model):
        yield world
    elif world.any(gathered_bytes(model) + SCORING_BYTES > _free_bytes(next(model.parameters()).device)):
        try:
            yield SOLO
        except torch.OutOfMemoryError as error:
            # The others wait within a pass: no batch can be tried again, and the lane must end.
            rule = "memory ran out on a worker while all score in step"
            raise RuntimeError(f"{rule}: lower heldout.batch_tokens, or set more workers") from error
    else:
        with gathered(model):
            yield world


def _free_bytes(device: torch.device) -> float:
    if device.type != "cuda":
        return float("inf")  # the host's memory is not the lane's to measure
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached
