"""Lay out the micro-batches of several slots together, each slot with the same number of rows.

Where a model takes flat rows, filler sequences top up a slot's tokens; where it needs padding, filler sequences top up
its number of sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from trainables.data.dataset import Batch


@dataclass(frozen=True)
class PackedBatch:
    """The batches of several slots: each slot's rows form a rectangle with its own rows in the top left corner."""

    batch: Batch  # all sequences, slot by slot, each slot's own before its fillers
    shape: tuple[int, int]  # rows of each slot as (sequences, tokens); a flat row counts as one sequence
    own: tuple[tuple[int, int], ...]  # for each slot the part of `shape` that it fills on its own
    items: tuple[slice, ...]  # for each slot its own sequences in `batch`

    @property
    def slots(self) -> int:
        return len(self.own)

    @cached_property
    def rows(self) -> int:
        """Rows of each slot."""
        return self.shape[0] * self.shape[1]


def pack_batches(batches: Sequence[Batch], longest_flat: int, pad_id: int) -> PackedBatch:
    """Lay out the batches of several slots together.

    Args:
        batches: One for each slot, at least one, on the host.
        longest_flat: The longest sequence that may be laid end to end with others, from the `ForwardPlan`.
        pad_id: Token of the fillers.
    """
    longest = max(batch.max_length for batch in batches)
    flat = longest <= longest_flat
    own = tuple((1, batch.tokens) if flat else (len(batch), batch.max_length) for batch in batches)
    height, width = max(h for h, _ in own), max(w for _, w in own)
    # Adapters run as batched products over (slots, rows, features), hence equal numbers of rows. Fillers have no labels
    # and attend to themselves only, so they change no slot's loss.
    parts, items, place = [], [], 0
    for batch, (own_height, own_width) in zip(batches, own, strict=True):
        missing = _pieces(width - own_width, longest) if flat else [1] * (height - own_height)
        items.append(slice(place, place + len(batch)))
        place += len(batch) + len(missing)
        parts += [batch, *([_filler(missing, pad_id)] if missing else [])]
    return PackedBatch(_end_to_end(parts), (height, width), own, tuple(items))


def _pieces(total: int, longest: int) -> list[int]:
    """Lengths of at most `longest` that add up to `total`."""
    whole, rest = divmod(total, longest)
    return [longest] * whole + [rest] * (rest > 0)


def _filler(lengths: list[int], pad_id: int) -> Batch:
    none = torch.empty(0, dtype=torch.int64)
    return Batch(
        input_ids=torch.full((sum(lengths),), pad_id, dtype=torch.int64),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
        label_positions=none,
        labels=none,
        label_item=none,
        ids=("",) * len(lengths),
        max_length=max(lengths),
    )


def _end_to_end(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    # Offsets shift each part's starts, label positions and items to their place in the whole.
    starts, positions, owners = [torch.zeros(1, dtype=torch.int32)], [], []
    tokens = items = 0
    for part in parts:
        starts.append(part.cu_seqlens[1:] + tokens)
        positions.append(part.label_positions + tokens)
        owners.append(part.label_item + items)
        tokens, items = tokens + part.tokens, items + len(part)
    return Batch(
        input_ids=torch.cat([part.input_ids for part in parts]),
        position_ids=torch.cat([part.position_ids for part in parts]),
        cu_seqlens=torch.cat(starts),
        label_positions=torch.cat(positions),
        labels=torch.cat([part.labels for part in parts]),
        label_item=torch.cat(owners),
        ids=tuple(name for part in parts for name in part.ids),
        max_length=max(part.max_length for part in parts),
    )
