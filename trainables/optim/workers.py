"""The workers that share a trial: which one this is, and the state of dropout of each at a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """The workers that train one trial together.

    With more than one, `torch.distributed` must be initialised and all ranks make their `World` at the same time. Flags
    and losses travel between the hosts' processors, in a group of their own, so that they never wait for a GPU.

    Attributes:
        rank: This worker, 0 to `size` - 1.
        size: Number of workers.
    """

    rank: int = 0
    size: int = 1
    _control: dist.ProcessGroup | None = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.size > 1:
            object.__setattr__(self, "_control", dist.new_group(backend="gloo"))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker. All call this together and get the same answer."""
        return bool(self.highest(int(flag)))

    def highest(self, vote: int) -> int:
        """The highest of the workers' numbers. All call this together and get the same answer."""
        if self.size == 1:
            return vote
        votes = torch.tensor(vote)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._control)
        return int(votes)

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank. All call this together and get the same list."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._control)
        return values


SOLO = World()


def dropout_state(seed: int, step: int, rank: int) -> int:
    """The seed of a step's dropout: from the trial's seed, the steps done before and the worker, not from what ran."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])
