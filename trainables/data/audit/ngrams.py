"""Hash all n-grams of many texts at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # of a 64-bit linear congruential generator, Steele & Vigna 2021


class Flat(NamedTuple):
    """Rows of different lengths in one array.

    Attributes:
        values: (total,) uint64.
        ends: (rows,) int64: where each row ends.
    """

    values: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, parts: list[np.ndarray]) -> Flat:
        values = np.concatenate([np.empty(0, np.uint64), *parts])
        return cls(values, np.cumsum([len(part) for part in parts], dtype=np.int64))

    @classmethod
    def joined(cls, parts: list[Flat]) -> Flat:
        before = np.cumsum([0, *(len(part.values) for part in parts)])
        ends = [part.ends + start for part, start in zip(parts, before[:-1], strict=True)]
        values = [part.values for part in parts]
        return cls(np.concatenate([np.empty(0, np.uint64), *values]), np.concatenate([np.empty(0, np.int64), *ends]))

    def row(self, i: int) -> np.ndarray:
        return self.values[self.ends[i - 1] if i else 0 : self.ends[i]]

    @property
    def counts(self) -> np.ndarray:
        """(rows,) int64: values of each row."""
        return np.diff(self.ends, prepend=0)

    @property
    def row_of(self) -> np.ndarray:
        """(total,) int64: the row of each value."""
        return np.repeat(np.arange(len(self.ends)), self.counts)


def ngrams(words: np.ndarray, n: int) -> np.ndarray:
    """(len(words) - n + 1,) uint64: a hash of every run of `n` words."""
    # Horner's rule modulo 2**64, on all runs at once.
    size = max(0, len(words) - n + 1)
    runs = words[:size].copy()
    for offset in range(1, n):
        runs *= MULTIPLIER
        runs += words[offset : offset + size]
    return runs


def row_ngrams(rows: Flat, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams within one row: their hashes, and the row of each, ascending."""
    runs = ngrams(rows.values, n)
    row_of = rows.row_of[: len(runs)]
    inside = np.arange(len(runs)) + n <= rows.ends[row_of]
    return runs[inside], row_of[inside]


def matches(keys: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (index into `queries`, index into the ascending `keys`) of equal values."""
    left = np.searchsorted(keys, queries, "left")
    counts = np.searchsorted(keys, queries, "right") - left
    query = np.repeat(np.arange(len(queries)), counts)
    within = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    return query, left[query] + within
