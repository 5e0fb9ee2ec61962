"""Copies of tensors on the host, in buffers that are used again: what a writer reads while the trial trains on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch

Tensors = dict[str, torch.Tensor]
Layout = tuple[tuple[str, torch.Size, torch.dtype, int], ...]

MOST_BYTES = 1 << 30
"""Snapshots of adapters, a few MB to some hundred, all fit into this; of a larger model there is one at a time."""

PINNED_BYTES = 1 << 30
"""Page-locked memory makes a copy from a GPU several times faster. Beyond this it is left alone: torch rounds such an
allocation up to the next power of two."""


@dataclass(eq=False)
class Snapshot:
    """A copy; `Snapshots.release` has its buffer used again.

    Attributes:
        layout: By which a buffer is found that fits.
        tensors: Contiguous, on the host; those that shared memory where they came from share it here.
        size_bytes: Of them together.
    """

    layout: Layout
    tensors: Tensors
    size_bytes: int


class Snapshots:
    """Snapshots of one lane. Safe to call from several threads.

    Args:
        most_bytes: Snapshots in use together hold at most this, or there is one alone.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._used, self._free = 0, list[Snapshot]()
        self._changed = threading.Condition()

    def take(self, tensors: Mapping[str, torch.Tensor]) -> Snapshot:
        """Copies tensors as they stand; waits while the snapshots in use leave no room."""
        layout = _layout(tensors)
        sizes = {place: shape.numel() * dtype.itemsize for _, shape, dtype, place in layout}
        size = sum(sizes.values())
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self.most_bytes)
            self._used += size
            snapshot = self._fitting(layout, size)
        try:
            return _copied(tensors, snapshot or _new(layout, size))
        except BaseException:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
            raise

    def release(self, snapshot: Snapshot) -> None:
        """A snapshot has served."""
        with self._changed:
            self._used -= snapshot.size_bytes
            self._free.append(snapshot)
            self._changed.notify_all()

    def _fitting(self, layout: Layout, size: int) -> Snapshot | None:
        """A free buffer of that layout; where there is none, others give way until the new one has room."""
        for snapshot in self._free:
            if snapshot.layout == layout:
                self._free.remove(snapshot)
                return snapshot
        while self._free and self._used + sum(free.size_bytes for free in self._free) > self.most_bytes:
            self._free.pop(0)
        return None


def _layout(tensors: Mapping[str, torch.Tensor]) -> Layout:
    """Name, shape and type of each tensor, and which memory it has, counted in the order of appearance."""
    places: dict[tuple[int, torch.Size, tuple[int, ...]], int] = {}
    found = []
    for name, tensor in tensors.items():
        place = places.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), len(places))
        found.append((name, tensor.shape, tensor.dtype, place))
    return tuple(found)


def _new(layout: Layout, size: int) -> Snapshot:
    pin = torch.cuda.is_available() and size <= PINNED_BYTES
    memory: dict[int, torch.Tensor] = {}
    for _, shape, dtype, place in layout:
        if place not in memory:
            memory[place] = torch.empty(shape, dtype=dtype, pin_memory=pin)
    return Snapshot(layout, {name: memory[place] for name, _, _, place in layout}, size)


def _copied(tensors: Mapping[str, torch.Tensor], snapshot: Snapshot) -> Snapshot:
    for name, tensor in tensors.items():
        snapshot.tensors[name].copy_(tensor.detach(), non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.current_stream().synchronize()
    return snapshot
