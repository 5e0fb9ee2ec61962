"""Copies of tensors in reused host buffers, which a writer reads while the trial trains on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trainables.models.sharding.shards import local, whole

Tensors = dict[str, torch.Tensor]
Layout = tuple[tuple[str, torch.Size, torch.dtype, int], ...]

# Several snapshots of adapters (a few MB to some hundred) fit; of a larger model there is one at a time.
MOST_BYTES = 1 << 30

# Page-locked memory makes a copy from a GPU several times faster. Larger snapshots do without: torch rounds a pinned
# allocation up to the next power of two.
PINNED_BYTES = 1 << 30


@dataclass(eq=False)
class Snapshot:
    """A copy; `Snapshots.release` frees its buffer for reuse.

    Attributes:
        layout: Names, shapes, types and shared memory of the tensors; a buffer is reused for the same layout.
        tensors: Contiguous, on the host; tensors that shared memory at their source share it here.
        size_bytes: Size of all tensors together.
    """

    layout: Layout
    tensors: Tensors
    size_bytes: int


class Snapshots:
    """Snapshots of one lane. Thread-safe.

    Args:
        most_bytes: Limit of the snapshots in use; a single larger one is allowed.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._used, self._free = 0, list[Snapshot]()
        self._changed = threading.Condition()

    def reserve(self, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
        """Room for a copy of these tensors; blocks while the snapshots in use leave none.

        Raises:
            RuntimeError: The host has too little memory.
        """
        layout = _layout(tensors)
        sizes = {place: shape.numel() * dtype.itemsize for _, shape, dtype, place in layout}
        size = sum(sizes.values())
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self.most_bytes)
            self._used += size
            snapshot = self._fitting(layout, size)
        with self._freed_on_error(size):
            return snapshot or _new(layout, size)

    def take(self, tensors: Mapping[str, torch.Tensor], room: Snapshot | None = None) -> Snapshot:
        """Copy tensors; collective for those that workers share out.

        Args:
            tensors: The tensors.
            room: From `reserve`, for these tensors; None to reserve it here.
        """
        snapshot = room or self.reserve(tensors)
        with self._freed_on_error(snapshot.size_bytes):
            _copy(tensors, snapshot)
        return snapshot

    @contextmanager
    def _freed_on_error(self, size: int) -> Iterator[None]:
        try:
            yield
        except BaseException:  # the room would else be lost, and a later call would wait for ever
            with self._changed:
                self._used -= size
                self._changed.notify_all()
            raise

    def release(self, snapshot: Snapshot) -> None:
        """Free a snapshot's buffer for reuse."""
        with self._changed:
            self._used -= snapshot.size_bytes
            self._free.append(snapshot)
            self._changed.notify_all()

    def _fitting(self, layout: Layout, size: int) -> Snapshot | None:
        for snapshot in self._free:
            if snapshot.layout == layout:
                self._free.remove(snapshot)
                return snapshot
        # A new buffer is needed: drop free ones of other layouts until it has room.
        while self._free and self._used + sum(free.size_bytes for free in self._free) > self.most_bytes:
            self._free.pop(0)
        return None


def _layout(tensors: Mapping[str, torch.Tensor]) -> Layout:
    # Tied weights get the same number, so that they are copied once and stay tied.
    places: dict[tuple[int, torch.Size, tuple[int, ...]], int] = {}
    found = []
    for name, tensor in tensors.items():
        place = places.setdefault((local(tensor).data_ptr(), tensor.shape, tensor.stride()), len(places))
        found.append((name, tensor.shape, tensor.dtype, place))
    return tuple(found)


def _new(layout: Layout, size: int) -> Snapshot:
    pin = torch.cuda.is_available() and size <= PINNED_BYTES
    memory: dict[int, torch.Tensor] = {}
    for _, shape, dtype, place in layout:
        if place not in memory:
            memory[place] = torch.empty(shape, dtype=dtype, pin_memory=pin)
    return Snapshot(layout, {name: memory[place] for name, _, _, place in layout}, size)


def _copy(tensors: Mapping[str, torch.Tensor], snapshot: Snapshot) -> None:
    for name, tensor in tensors.items():
        # Of a sharded model one weight after another is gathered: never all at once.
        snapshot.tensors[name].copy_(whole(tensor.detach()), non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        # Non-blocking copies: without this the trial's next step could change what is being read.
        torch.cuda.current_stream().synchronize()
