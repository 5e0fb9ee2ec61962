"""The workers that share a trial, and the seed of each one's dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """The workers that train one trial together.

    With more than one, `torch.distributed` must be initialized and all ranks must make their `World` at the same time.

    Attributes:
        rank: This worker, 0 to `size` - 1.
        size: Number of workers.
    """

    rank: int = 0
    size: int = 1
    _control: dist.ProcessGroup | None = field(init=False, default=None, compare=False, repr=False)
    _writers: dist.ProcessGroup | None = field(init=False, default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Flags and losses travel between CPUs in a group of their own and never wait for a GPU.
        if self.size > 1:
            object.__setattr__(self, "_control", dist.new_group(backend="gloo"))
            # Of the threads that write files, whose calls come between those of the training threads in any order.
            object.__setattr__(self, "_writers", dist.new_group(backend="gloo"))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker. Collective: all workers call it together."""
        return bool(self.highest(int(flag)))

    def highest(self, vote: int) -> int:
        """The highest of the workers' numbers. Collective."""
        if self.size == 1:
            return vote
        votes = torch.tensor(vote)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._control)
        return int(votes)

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Context in which memory that runs out on one worker has run out on all. Collective at its end.

        Raises:
            torch.OutOfMemoryError: Memory ran out on this worker or another.
        """
        ran_out = False
        try:
            yield
        except torch.OutOfMemoryError:
            if self.size == 1:
                raise
            ran_out = True
        # Outside the handler, whose traceback keeps the failed step's tensors alive.
        if self.any(ran_out):
            raise torch.OutOfMemoryError("memory ran out on a worker of this trial")

    def together(self, part: Callable[[], Any]) -> list[Any]:
        """What `part` returns on every worker, by rank. Collective.

        Raises:
            Exception: What it raised on this worker, or else on the first of the others: no worker waits in vain.
        """
        if self.size == 1:
            return [part()]
        try:
            value, error = part(), None
        except Exception as raised:  # noqa: BLE001 - raised below, on all workers
            value, error = None, raised
        found = self.gather((value, None if error is None else f"{type(error).__name__}: {error}"))
        if error is not None:
            raise error
        if others := [f"worker {rank}: {text}" for rank, (_, text) in enumerate(found) if text is not None]:
            raise RuntimeError(others[0])
        return [value for value, _ in found]

    def writers_meet(self) -> None:
        """Wait until the writing threads of all workers are here. Collective among them."""
        if self.size > 1:
            dist.barrier(group=self._writers)

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank. Collective."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._control)
        return values


SOLO = World()


def dropout_state(seed: int, step: int, rank: int) -> int:
    """Seed of a step's dropout: depends on the trial's seed, the steps done and the worker only."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])
