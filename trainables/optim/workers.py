"""The workers that share a trial, and the seed of each one's dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from trainables.errors import DISK_FULL, os_error

# A worker's vote at the end of a block; the highest counts.
FINE, RAN_OUT, FAILED = 0, 1, 2


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
        return self._highest(vote, self._control)

    @contextmanager
    def all_or_none(self, *, writers: bool = False) -> Iterator[None]:
        """Context that fails on all workers where it fails on one. Collective at its end; nothing within may be.

        Args:
            writers: Whether the threads that write files meet here, not those that train.

        Raises:
            torch.OutOfMemoryError: Memory ran out on this worker or another, and nothing else went wrong.
            Exception: What went wrong on this worker, or else a RuntimeError that names the first of the others.
        """
        ran_out, error = False, None
        try:
            yield
        except torch.OutOfMemoryError:
            if self.size == 1:
                raise
            ran_out = True
        except Exception as raised:
            if self.size == 1:
                raise
            error = raised
        # Outside the handler, whose traceback keeps the failed step's tensors alive.
        group = self._writers if writers else self._control
        worst = self._highest(FAILED if error else RAN_OUT if ran_out else FINE, group)
        if worst == FAILED:
            error = error or (torch.OutOfMemoryError("memory ran out") if ran_out else None)
            _raise_first(error, self._gather(_Failure.of(error), group))
        if worst == RAN_OUT:
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
        found = self._gather((value, _Failure.of(error)), self._control)
        _raise_first(error, [failure for _, failure in found])
        return [value for value, _ in found]

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank. Collective."""
        if self.size == 1:
            return [value]
        return self._gather(value, self._control)

    def _highest(self, vote: int, group: dist.ProcessGroup | None) -> int:
        if self.size == 1:
            return vote
        votes = torch.tensor(vote)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=group)
        return int(votes)

    def _gather(self, value: Any, group: dist.ProcessGroup | None) -> list[Any]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=group)
        return values


class _Failure(NamedTuple):
    """An error as other workers learn of it."""

    line: str
    disk_full: OSError | None  # behind it: no fault of the trial's

    @classmethod
    def of(cls, error: Exception | None) -> _Failure | None:
        if error is None:
            return None
        full = os_error(error, DISK_FULL)
        return cls(f"{type(error).__name__}: {error}", full and OSError(full.errno, full.strerror, full.filename))


def _raise_first(error: Exception | None, failures: list[_Failure | None]) -> None:
    """Raise this worker's error, or one that names the first of the other workers that has one."""
    if error is not None:
        raise error
    for rank, failure in enumerate(failures):
        if failure is not None:
            raise RuntimeError(f"worker {rank}: {failure.line}") from failure.disk_full


SOLO = World()


def dropout_state(seed: int, step: int, rank: int) -> int:
    """Seed of a step's dropout: depends on the trial's seed, the steps done and the worker only."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])
