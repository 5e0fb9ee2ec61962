"""The weights of several adapters in one matrix, one row per slot, with their optimizer state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch.nn import functional

from trainables.data.dataset import to_device
from trainables.packing.adamw import SlotUpdate, update_

Adapter = Mapping[str, tuple[torch.Tensor, torch.Tensor]]  # layer name -> A (rank, in), B (out, rank)


@dataclass(frozen=True)
class Layout:
    """Position of an adapter's weights in its row: every layer's A, then every layer's B.

    A row may be laid out for a larger rank than its adapter's; the padding is zero.
    """

    features: Mapping[str, tuple[int, int]]  # features in and out by layer
    rank: int  # at least that of every adapter in the rows

    @cached_property
    def sizes(self) -> list[int]:
        """Number of weights of each part of a row: the As, then the Bs."""
        ins, outs = zip(*self.features.values(), strict=True)
        return [self.rank * size for size in ins + outs]

    @property
    def downs(self) -> int:
        """Number of weights of all As, which is where the Bs begin."""
        return sum(self.sizes[: len(self.features)])

    def parts(self, rows: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """View rows (slots, P) by layer as As, (slots, rank x in), and Bs, (slots, out x rank)."""
        # One split: its backward pass is one concatenation. Slices would each get a full-size gradient to add up.
        parts, count = rows.split(self.sizes, dim=1), len(self.features)
        return dict(zip(self.features, zip(parts[:count], parts[count:], strict=True), strict=True))

    def row(self, adapter: Adapter) -> torch.Tensor:
        """Flatten an adapter of this rank to (P,)."""
        downs, ups = zip(*(adapter[name] for name in self.features), strict=True)
        return torch.cat([weight.detach().flatten() for weight in downs + ups])

    def adapter(self, row: torch.Tensor) -> Adapter:
        """View (P,) as an adapter of this rank."""
        return {
            name: (down.view(self.rank, -1), up.view(-1, self.rank))
            for name, (down, up) in self.parts(row[None]).items()
        }

    def fit(self, rows: torch.Tensor, rank: int) -> torch.Tensor:
        """Lay out rows (slots, P) for another rank, adding or cutting zeros.

        Args:
            rows: In this layout.
            rank: At least the rank of every adapter in `rows`.
        """
        if rank == self.rank:
            return rows
        # Zero padding stays zero under training: a padded row of A gets its gradient through B's zeros, a
        # padded column of B through A's.
        more, slots = rank - self.rank, len(rows)
        parts = self.parts(rows).values()
        downs = [functional.pad(down.view(slots, self.rank, -1), (0, 0, 0, more)) for down, _ in parts]
        ups = [functional.pad(up.view(slots, -1, self.rank), (0, more)) for _, up in parts]
        return torch.cat([part.flatten(1) for part in downs + ups], dim=1)


@dataclass(frozen=True)
class AdapterState:
    """One adapter and its optimizer state, at its own rank."""

    layout: Layout  # layout of `rows`
    rows: torch.Tensor  # (3, P): the weights, and AdamW's two running means
    scaling: float  # LoRA's factor alpha / r

    @staticmethod
    def fresh(adapter: Adapter, scaling: float) -> AdapterState:
        """The state of an untrained adapter."""
        features = {name: (down.shape[1], up.shape[0]) for name, (down, up) in adapter.items()}
        layout = Layout(features, next(iter(adapter.values()))[0].shape[0])
        row = layout.row(adapter)
        return AdapterState(layout, torch.stack([row, torch.zeros_like(row), torch.zeros_like(row)]), scaling)


class AdapterStack:
    """The adapters of all slots.

    Attributes:
        layout: Of all rows, at the largest of the adapters' ranks. None without slots.
        rows: (3, slots, P): weights, and AdamW's two running means.
    """

    def __init__(self) -> None:
        self.layout: Layout | None = None
        self.rows = torch.empty(3, 0, 0)
        self._ranks: list[int] = []
        self._scalings: list[float] = []
        self._scale = torch.empty(0, 1)

    @property
    def weights(self) -> torch.Tensor:
        """(slots, P)."""
        return self.rows[0]

    def add(self, state: AdapterState) -> None:
        """Add an adapter as the last slot.

        Raises:
            ValueError: It adapts other layers than those already here.
        """
        own = state.rows[:, None]  # (3, 1, P)
        if self.layout is None:
            self.layout, self.rows = state.layout, own.clone()
        elif dict(self.layout.features) != dict(state.layout.features):
            raise ValueError("the adapters of a pack must adapt the same layers")
        else:
            rank = max(self.layout.rank, state.layout.rank)
            self._fit(rank)
            self.rows = torch.cat([self.rows, _fit(state.layout, own, rank)], dim=1)
        self._set_members([*self._ranks, state.layout.rank], [*self._scalings, state.scaling])

    def take(self, index: int) -> AdapterState:
        """Remove and return a slot; later slots move up."""
        state = self.state(index)
        # Cutting out, instead of masking, keeps a diverged slot's NaN from being computed with again.
        self.rows = torch.cat([self.rows[:, :index], self.rows[:, index + 1 :]], dim=1)
        ranks, scalings = self._ranks, self._scalings
        self._set_members(ranks[:index] + ranks[index + 1 :], scalings[:index] + scalings[index + 1 :])
        if self._ranks:
            self._fit(max(self._ranks))
        else:
            self.layout = None
        return state

    def state(self, index: int) -> AdapterState:
        """Copy a slot's adapter and optimizer state."""
        assert self.layout is not None
        rank = self._ranks[index]
        rows = _fit(self.layout, self.rows[:, index : index + 1], rank)[:, 0].clone()
        return AdapterState(replace(self.layout, rank=rank), rows, self._scalings[index])

    def working_copy(self, dtype: torch.dtype | None) -> torch.Tensor:
        """(slots, P): the weights cast to `dtype` (None: unchanged), each B times its adapter's scaling."""
        assert self.layout is not None
        copy = self.weights.clone()
        # Scaling B here saves a product of the output's size in every layer. fp32 first, then the cast.
        copy[:, self.layout.downs :] *= self._scale
        return copy.to(dtype or copy.dtype)

    def update(self, gradient: torch.Tensor, updates: Sequence[SlotUpdate]) -> torch.Tensor:
        """Update every slot.

        Args:
            gradient: (slots, P), of each slot's loss with respect to the working copy; overwritten.
            updates: One for each slot.

        Returns:
            (slots,): gradient norms with respect to the weights, before clipping.
        """
        assert self.layout is not None
        # Chain rule: the loss depends on scaling * B, the update is of B.
        gradient[:, self.layout.downs :] *= self._scale
        return update_(self.rows[0], gradient, self.rows[1], self.rows[2], updates)

    def _fit(self, rank: int) -> None:
        assert self.layout is not None
        self.rows, self.layout = _fit(self.layout, self.rows, rank), replace(self.layout, rank=rank)

    def _set_members(self, ranks: list[int], scalings: list[float]) -> None:
        self._ranks, self._scalings = ranks, scalings
        self._scale = to_device(torch.tensor(scalings, dtype=self.rows.dtype)[:, None], self.rows.device)


def _fit(layout: Layout, rows: torch.Tensor, rank: int) -> torch.Tensor:
    """`Layout.fit` for (3, slots, P)."""
    return layout.fit(rows.flatten(0, 1), rank).unflatten(0, (3, -1))
