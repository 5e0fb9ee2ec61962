"""Tokenized samples for training: the memory-mapped set and padding-free batches.

`trainables.data.tokenization` writes the set once for a sweep; every lane maps the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from trainables.data.samples import Item, context_group
from trainables.data.tokenization import SCHEMA, SCHEMA_OF_0_1
from trainables.errors import UserError


class TokenSequence(NamedTuple):
    """One tokenized sample.

    Attributes:
        id: The sample's id.
        input_ids: (tokens,) int32.
        label_mask: (tokens,) bool; True where the token is trained on. The first token is never a label.
    """

    id: str
    input_ids: np.ndarray
    label_mask: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Sequences laid end to end, without padding: T tokens, B sequences, L labels.

    Attributes:
        input_ids: (T,) int64.
        position_ids: (T,) int64; each sequence counts from 0.
        cu_seqlens: (B + 1,) int32; sequence b is tokens cu_seqlens[b] to cu_seqlens[b + 1].
        label_positions: (L,) int64; the position in T of the hidden state that predicts each label, one before it.
        labels: (L,) int64; the tokens to predict.
        label_item: (L,) int64, ascending; the sequence of each label, 0 to B - 1.
        ids: The B samples' ids.
        max_length: Tokens of the longest sequence.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    label_positions: torch.Tensor
    labels: torch.Tensor
    label_item: torch.Tensor
    ids: tuple[str, ...]
    max_length: int  # no tensor: attention kernels would wait for the device to read it

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[0]

    @property
    def label_tokens(self) -> int:
        return self.labels.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """Copies the batch to another device, as `to_device` does."""
        names = ("input_ids", "position_ids", "cu_seqlens", "label_positions", "labels", "label_item")
        moved: dict[str, Any] = {name: to_device(getattr(self, name), device) for name in names}
        return replace(self, **moved)


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copies a tensor to a device; the host does not wait for a GPU."""
    # A copy from pageable memory is staged, and waits for the GPU's earlier work; one from pinned memory is queued.
    pins = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory().to(device, non_blocking=True) if pins else tensor.to(device)


def collate(sequences: Sequence[TokenSequence]) -> Batch:
    """Concatenates sequences to a batch.

    Raises:
        ValueError: There is no sequence, one is empty, or one begins with a label, which nothing predicts.
    """
    if not sequences or any(len(sequence.input_ids) == 0 or sequence.label_mask[0] for sequence in sequences):
        raise ValueError("a batch needs sequences, each with a first token that is not a label")
    lengths = np.array([len(sequence.input_ids) for sequence in sequences])
    ends = np.cumsum(lengths)
    input_ids = np.concatenate([sequence.input_ids for sequence in sequences]).astype(np.int64)
    labels_at = np.flatnonzero(np.concatenate([sequence.label_mask for sequence in sequences]))
    return Batch(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)),
        cu_seqlens=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
        label_positions=torch.from_numpy(labels_at - 1),
        labels=torch.from_numpy(input_ids[labels_at]),
        label_item=torch.from_numpy(np.searchsorted(ends, labels_at, side="right")),
        ids=tuple(sequence.id for sequence in sequences),
        max_length=int(lengths.max()),
    )


def pad(batch: Batch, pad_id: int) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Pads the batch to a rectangle for models that need one; S is the longest sequence.

    Returns:
        input_ids (B, S), padded on the right; attention_mask (B, S) int64, 1 at tokens; and (row, column), each (L,):
        `hidden[row, column]` predicts `batch.labels`.
    """
    device = batch.input_ids.device
    shape = (len(batch), batch.max_length)
    lengths = batch.cu_seqlens.diff().long()
    # `output_size` is known here; without it repeat_interleave would wait for the device to sum the lengths.
    rows = torch.arange(len(batch), device=device).repeat_interleave(lengths, output_size=batch.tokens)
    input_ids = torch.full(shape, pad_id, dtype=torch.int64, device=device)
    input_ids[rows, batch.position_ids] = batch.input_ids
    attention_mask = torch.zeros(shape, dtype=torch.int64, device=device)
    attention_mask[rows, batch.position_ids] = 1
    return input_ids, attention_mask, (batch.label_item, batch.position_ids[batch.label_positions])


class TokenizedSet:
    """The tokenized samples of one or more data files, read from memory-mapped Arrow files.

    Args:
        paths: Files written by `trainables.data.tokenization.tokenize`; their samples follow one another.

    Raises:
        UserError: A file is missing, or `tokenize` did not write it.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.paths = tuple(str(path) for path in paths)
        self._table = table = pa.concat_tables([_read_table(path) for path in self.paths])
        # NumPy views of each record batch: indexing a list column in pyarrow would make objects for each row.
        self._chunks = [
            (ids.offsets.to_numpy(), ids.values.to_numpy(), labels.values)
            for ids, labels in zip(table["input_ids"].chunks, table["label_mask"].chunks, strict=True)
        ]
        self._first_rows = np.cumsum([0, *(len(starts) - 1 for starts, _, _ in self._chunks)])

    def __len__(self) -> int:
        return self._table.num_rows

    def __reduce__(self) -> tuple[type[TokenizedSet], tuple[str, ...]]:
        # Another process maps the files for itself; pickling the table would copy all tokens.
        return type(self), self.paths

    @cached_property
    def ids(self) -> list[str]:
        return self._table["id"].to_pylist()

    @cached_property
    def lengths(self) -> np.ndarray:
        """(samples,) int64: tokens of each sample."""
        return np.concatenate([np.diff(starts).astype(np.int64) for starts, _, _ in self._chunks])

    def input_ids(self, i: int) -> np.ndarray:
        """(tokens,) int32, a read-only view of the file."""
        (_, values, _), start, stop = self._locate(i)
        return values[start:stop]

    def label_mask(self, i: int) -> np.ndarray:
        """(tokens,) bool: True where the token is trained on."""
        (_, _, mask), start, stop = self._locate(i)
        return mask.slice(start, stop - start).to_numpy(zero_copy_only=False)  # bits in the file, so never a view

    def prompt_ids(self, i: int) -> np.ndarray:
        """(prompt tokens,) int32, the input of generation: all tokens before the last label; none of plain text."""
        return self.input_ids(i)[: self._value("prompt_length", i)]

    def response_ids(self, i: int) -> np.ndarray:
        """(response tokens,) int32: the last label, from the prompt's end to its end token."""
        length = self._value("prompt_length", i)
        return self.input_ids(i)[length:][: int(np.flatnonzero(self.label_mask(i)[length:])[-1]) + 1]

    def answer_mark(self, i: int) -> str | None:
        """The text behind which the answer begins in a response that has reasoning before it; mostly None."""
        return self._value("answer_mark", i) if "answer_mark" in self._table.column_names else None

    @cached_property
    def label_ends(self) -> frozenset[int]:
        """The tokens that responses end with; none of plain text."""
        asked = np.flatnonzero(self._table["prompt_length"].to_numpy())
        return frozenset(int(self.response_ids(int(i))[-1]) for i in asked)

    def sequence(self, i: int) -> TokenSequence:
        return TokenSequence(self._value("id", i), self.input_ids(i), self.label_mask(i))

    def batch(self, indices: Iterable[int]) -> Batch:
        return collate([self.sequence(i) for i in indices])

    def item(self, i: int) -> Item:
        return Item(
            id=self._value("id", i),
            prompt=self._value("prompt", i),
            response=self._value("response", i),
            meta=json.loads(self._value("meta", i)),
        )

    def group(self, i: int) -> str:
        """The cluster of sample i for resampling: its `group` key, or else its `samples.context_group`."""
        # Items that ask different questions about one text are not independent.
        group = self._value("group", i)
        # A plain text has no prompt, and is a context of its own.
        return context_group(self._value("prompt", i) or self._value("response", i)) if group is None else group

    def _value(self, column: str, i: int) -> Any:
        return self._table[column][self._checked(i)].as_py()

    def _checked(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} is not among {len(self)}")
        return int(i)

    def _locate(self, i: int) -> tuple[tuple[np.ndarray, np.ndarray, pa.BooleanArray], int, int]:
        """The record batch of sample i, and the start and stop of its tokens there."""
        chunk = int(np.searchsorted(self._first_rows, self._checked(i), side="right")) - 1
        starts = self._chunks[chunk][0]
        row = i - self._first_rows[chunk]
        return self._chunks[chunk], int(starts[row]), int(starts[row + 1])


def _read_table(path: str) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        rule, remedy = "tokenized data must be readable by every worker", "keep the sweep's folder on shared storage"
        raise UserError(path, rule, error, remedy) from error
    if table.schema not in (SCHEMA, SCHEMA_OF_0_1):
        raise UserError(path, "must be tokenized data", table.schema.names, "start the sweep in a new folder")
    return table
