"""A lane's writer: one thread on which checkpoints and states go to disk, in order, while trials train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from trainables.checkpoints.host_snapshots import MOST_BYTES, Snapshot, Snapshots, Tensors
from trainables.reliability import watchdog

Write = Callable[[Tensors], object]


class Writer:
    """Writes tensors as they stood when it was asked to.

    Args:
        most_bytes: What may wait to be written, in memory; see `Snapshots`.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._snapshots = Snapshots(most_bytes)
        self._thread = ThreadPoolExecutor(1, "writer")

    def submit(self, tensors: Mapping[str, torch.Tensor], write: Write) -> Future[None]:
        """Copies tensors to the host and has them written after all that was asked for before.

        Waits for the copy, and for earlier writes only where there is no room for another copy.

        Args:
            tensors: What is written; they may change as soon as this returns.
            write: Called on the writer's thread with the copies, which are its own until it returns.

        Returns:
            Done when `write` has returned; has its error if it raised one.
        """
        snapshot = self._snapshots.take(tensors)
        return self._thread.submit(self._write, snapshot, write)

    def close(self) -> None:
        """Waits until all is written, and ends the thread."""
        self._thread.shutdown()

    def _write(self, snapshot: Snapshot, write: Write) -> None:
        try:
            write(snapshot.tensors)
            watchdog.beat()
        finally:
            self._snapshots.release(snapshot)


class Pending:
    """What one trial has had written, or will have when its writer gets there. An error stays one until `settle`.

    Args:
        writer: The lane's.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._open: list[Future[None]] = []

    @property
    def is_done(self) -> bool:
        """Whether all is written, or has failed."""
        return all(future.done() for future in self._open)

    def submit(self, tensors: Mapping[str, torch.Tensor], write: Write) -> None:
        """Has tensors written; see `Writer.submit`.

        Raises:
            Exception: An earlier write's.
        """
        self.check()
        self._open.append(self._writer.submit(tensors, write))

    def check(self) -> None:
        """Raises what went wrong with a write, if anything has by now."""
        done = [future for future in self._open if future.done()]
        for future in done:
            future.result()
            self._open.remove(future)

    def settle(self) -> None:
        """Waits until all is written.

        Raises:
            Exception: A write's, the first one's; the others are over by then, too.
        """
        futures, self._open = self._open, []
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            raise errors[0]
