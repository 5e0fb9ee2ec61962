"""Asynchronous writer: one thread a lane writes checkpoints and states, in order, while trials train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from trainables.checkpoints.host_snapshots import MOST_BYTES, Snapshot, Snapshots, Tensors
from trainables.reliability import watchdog

Write = Callable[[Tensors], object]


class Writer:
    """Writes tensors on a thread, as they were when they were submitted.

    Args:
        most_bytes: Limit of the copies that wait in memory; see `Snapshots`.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._snapshots = Snapshots(most_bytes)
        self._thread = ThreadPoolExecutor(1, "writer")

    def reserve(self, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
        """Room for a copy on the host; blocks for earlier writes where there is none. Raises as `Snapshots.reserve`."""
        return self._snapshots.reserve(tensors)

    def submit(self, tensors: Mapping[str, torch.Tensor], write: Write, room: Snapshot) -> Future[None]:
        """Copy tensors to the host and queue a write of the copies.

        Args:
            tensors: They may change as soon as this returns.
            write: Called on the writer's thread; the copies are reused after it returns.
            room: From `reserve`, for these tensors.
        """
        snapshot = self._snapshots.take(tensors, room)
        return self._thread.submit(self._write, snapshot, write)

    def close(self) -> None:
        """Wait for all writes, then end the thread."""
        self._thread.shutdown()

    def _write(self, snapshot: Snapshot, write: Write) -> None:
        try:
            write(snapshot.tensors)
            watchdog.beat()
        finally:
            self._snapshots.release(snapshot)


class Pending:
    """Writes of one trial that are not known to have succeeded.

    Args:
        writer: The lane's writer.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._open: list[Future[None]] = []

    @property
    def is_done(self) -> bool:
        """Whether every write has ended, well or not."""
        return all(future.done() for future in self._open)

    def reserve(self, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
        """Room for `submit`; raises the error of an earlier write. With it, `submit` copies and fails no more."""
        self.check()
        return self._writer.reserve(tensors)

    def submit(self, tensors: Mapping[str, torch.Tensor], write: Write, room: Snapshot) -> None:
        """Submit a write as `Writer.submit` does."""
        self._open.append(self._writer.submit(tensors, write, room))

    def check(self) -> None:
        """Raise the error of a write that has failed by now."""
        done = [future for future in self._open if future.done()]
        for future in done:
            future.result()  # a failed write stays in the list, so that each later call raises it, too
            self._open.remove(future)

    def settle(self) -> None:
        """Wait for all writes; raises the first error once the others have ended, too."""
        futures, self._open = self._open, []
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            raise errors[0]
