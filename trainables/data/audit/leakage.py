"""Find held-out items in a data set: exact, up to spaces and case, or inside a longer text.

A shared context, question or stock phrase is no leak, and neither is a shared instruction (`wrappers.py`). An item has
leaked if the text has nearly all words of its prompt in long runs, and the question among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trainables.data.audit.fingerprint import FEWEST_WORDS, HashedTexts
from trainables.data.audit.ngrams import Flat, matches, ngrams, row_ngrams
from trainables.data.audit.normalization import mixed

# Runs of 13 words are the usual sign of contamination (Brown et al. 2020, appendix C); the share of words is ours.
RUN_WORDS = 13
LEAST_SHARE = 0.8
# Ours: a run that more items have (a shared context, a stock phrase) does not identify an item.
MOST_SHARING = 32
MOST_TRIED = 16  # items for each row, those with the most runs in common first
SLOTS_PER_RUN = 16  # of the filter: at most one unknown run in 16 passes it
MOST_SLOTS = 2**26

# Ours. Under another instruction, fewer words may be another item ("France": its capital, its currency), and a longer
# text around them may be the context that they ask about.
FEWEST_REWRAPPED_WORDS = 3
LONGEST_INSTRUCTION = 50

COPY, SAME, SAME_PROMPT, REWRAPPED, CONTAINED = range(5)


class HeldoutArea(NamedTuple):
    """A held-out area: its name, file and items."""

    name: str
    path: str
    texts: HashedTexts


class Match(NamedTuple):
    """A held-out item in a sample.

    Attributes:
        row: Index of the sample in its chunk.
        area: Index of the area.
        item: Index of the item in its area.
        kind: `COPY`, `SAME`, `SAME_PROMPT`, `REWRAPPED` or `CONTAINED`, from closest to loosest.
        share: Share of the item's words that was found; 1 for all kinds but `CONTAINED`.
        wrapped: Whether a wrapper was taken off the item.
    """

    row: int
    area: int
    item: int
    kind: int
    share: float
    wrapped: bool = False

    def describe(self, shared: str) -> str:
        """The kind in words.

        Args:
            shared: The words that both have, quoted.
        """
        which = " beyond its instruction" if self.wrapped else ", its question among them"
        return (
            "the same text",
            "the same text but for spaces or case",
            "the same prompt with another response",
            f"the same prompt and response under another instruction: {shared}",
            f"shares {shared}, {self.share:.0%} of the words of a prompt{which}",
        )[self.kind]


class _Table(NamedTuple):
    """Hashes in ascending order, and the item of each."""

    keys: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, keys: np.ndarray, items: np.ndarray) -> _Table:
        order = np.argsort(keys, kind="stable")
        return cls(keys[order], items[order])

    def find(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of equal hashes: indices into `queries`, and items."""
        query, at = matches(self.keys, queries)
        return query, self.items[at]


class HeldoutIndex:
    """Index of the items of some areas, to find those in a sample without trying each.

    Args:
        areas: The areas. Memory grows with their words, so that they must be small next to the training set.
    """

    def __init__(self, areas: list[HeldoutArea]) -> None:
        self.areas = areas
        sizes = [len(area.texts.lines) for area in areas]
        self._first = np.cumsum([0, *sizes])[:-1]  # (areas,) number of each area's first item
        self._exact, self._norm, self._prompt, self._core = (
            _Table.of(np.concatenate([np.empty(0, np.uint64), *keys]), np.arange(sum(sizes)))
            for keys in (
                [area.texts.exact for area in areas],
                [area.texts.norm for area in areas],
                [area.texts.prompt for area in areas],
                [area.texts.core for area in areas],
            )
        )
        self._end_sizes, self._ends = _question_ends(areas)
        self._runs = self._index_runs()  # length of the runs in words -> their hashes
        # A Bloom filter of the longest runs: most runs of a sample are unknown, and a search for each takes longer.
        longest = self._runs[RUN_WORDS].keys
        slots = min(MOST_SLOTS, 1 << (SLOTS_PER_RUN * len(longest) + 1).bit_length())
        self._maybe_known = np.zeros(slots, bool)
        self._maybe_known[longest & np.uint64(slots - 1)] = True

    def _index_runs(self) -> dict[int, _Table]:
        parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {RUN_WORDS: []}
        for first, area in zip(self._first, self.areas, strict=True):
            prompts = Flat.of([area.texts.sought_of(row) for row in range(len(area.texts.lines))])
            sizes = prompts.counts
            for length in {RUN_WORDS, *range(FEWEST_WORDS, RUN_WORDS)}:
                keys, rows = row_ngrams(prompts, length)
                if length < RUN_WORDS:  # the whole of a short prompt
                    keys, rows = keys[sizes[rows] == length], rows[sizes[rows] == length]
                if len(keys):
                    parts.setdefault(length, []).append((keys, first + rows))
        return {length: _distinguishing(found) for length, found in parts.items()}

    def find(self, texts: HashedTexts) -> list[Match]:
        """The closest match of each row in each area, rows ascending."""
        best: dict[tuple[int, int], Match] = {}
        for match in self._matches(texts):
            key = match.row, match.area
            if key not in best or (match.kind, -match.share) < (best[key].kind, -best[key].share):
                best[key] = match
        return [best[key] for key in sorted(best)]

    def _matches(self, texts: HashedTexts) -> list[Match]:
        found = []
        for kind, table, queries in (
            (COPY, self._exact, texts.exact),
            (SAME, self._norm, texts.norm),
            (SAME_PROMPT, self._prompt, texts.prompt),
        ):
            found += [self._match(row, item, kind, 1.0) for row, item in zip(*table.find(queries), strict=True)]
        found += [self._match(row, item, REWRAPPED, 1.0) for row, item in self._rewrapped(texts)]
        for row, item in self._with_question(texts, self._sharing_runs(texts)):
            share = self._share(texts, row, item)
            found += [self._match(row, item, CONTAINED, share)] * (share >= LEAST_SHARE)
        return found

    def _rewrapped(self, texts: HashedTexts) -> Iterator[tuple[int, int]]:
        """Pairs of a row and an item with the same core and response, but another wrapper."""
        for row, item in zip(*self._core.find(texts.core), strict=True):
            area, at = self._locate(item)
            other = self.areas[area].texts.wrapper[at] != texts.wrapper[row]
            if other and texts.core_words[row] >= FEWEST_REWRAPPED_WORDS:
                yield row, item

    def _match(self, row: int, item: int, kind: int, share: float) -> Match:
        area, at = self._locate(item)
        return Match(int(row), area, at, kind, share, bool(self.areas[area].texts.wrapper[at]))

    def _locate(self, item: int) -> tuple[int, int]:
        area = int(np.searchsorted(self._first, item, "right")) - 1
        return area, int(item - self._first[area])

    def _sharing_runs(self, texts: HashedTexts) -> np.ndarray:
        """(pairs, 2) rows and items with common runs; of each row the `MOST_TRIED` items with the most of them."""
        pairs = []
        for length, table in self._runs.items():
            runs, row_of = row_ngrams(texts.words, length)
            if length == RUN_WORDS:
                known = self._maybe_known[runs & np.uint64(len(self._maybe_known) - 1)]
                runs, row_of = runs[known], row_of[known]
            at, items = table.find(runs)
            pairs.append(np.stack([row_of[at], items], axis=1))
        distinct, counts = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
        order = np.lexsort((-counts, distinct[:, 0]))
        ranked = distinct[order]
        rank = np.arange(len(ranked)) - np.searchsorted(ranked[:, 0], ranked[:, 0], "left")
        return ranked[rank < MOST_TRIED]

    def _with_question(self, texts: HashedTexts, pairs: np.ndarray) -> np.ndarray:
        """The pairs whose row has the end of the item's question, up to `RUN_WORDS` words, as one run."""
        sizes, ends = self._end_sizes[pairs[:, 1]], self._ends[pairs[:, 1]]
        wanted = _in_row(ends, pairs[:, 0])
        held = sizes == 0
        for size in np.unique(sizes[~held]):
            runs, row_of = row_ngrams(texts.words, int(size))
            some = np.isin(runs, ends[sizes == size])
            held |= (sizes == size) & np.isin(wanted, _in_row(runs[some], row_of[some]))
        return pairs[held]

    def _share(self, texts: HashedTexts, row: int, item: int) -> float:
        """Share of an item's words that are in runs of the text, 0 to 1; 0 where too little of its wrapper is."""
        area, at = self._locate(item)
        held, words = self.areas[area].texts, texts.words.row(row)
        share = float(_in_runs(held.sought_of(at), words).mean())
        if held.wrapped_whole[at]:
            return share if share == 1 else 0.0
        around = held.prompt_words[at] - held.core_words[at]
        if held.wrapper[at] == texts.wrapper[row] or around <= LONGEST_INSTRUCTION:
            return share
        return share if _in_runs(held.prompt_of(at), words).mean() >= LEAST_SHARE else 0.0

    def shared_words(self, match: Match, texts: HashedTexts) -> np.ndarray:
        """(words of the row,) bool: whether a word is in a run that the item's core has, too."""
        core = self.areas[match.area].texts.core_of(match.item)
        return _in_runs(texts.words.row(match.row), core)


def _in_runs(words: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(words,) bool: whether a word is in a run of `RUN_WORDS` words that the other text has, too.

    Of a shorter text the run is the whole.
    """
    length = min(RUN_WORDS, len(words), len(other))
    if not length:
        return np.zeros(len(words), bool)
    common = np.isin(ngrams(words, length), ngrams(other, length))
    # A word counts if any of the `length` runs over it is common.
    return np.asarray(np.convolve(common, np.ones(length, np.int64)) > 0)


def _in_row(runs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(runs,) uint64: one hash for a run and its row."""
    return mixed(runs ^ mixed(rows.astype(np.uint64)))


def _question_ends(areas: list[HeldoutArea]) -> tuple[np.ndarray, np.ndarray]:
    """(items,) lengths in words and hashes of the ends of all questions, at most `RUN_WORDS` words each."""
    # All of a prompt must be found where its core is too short: its question is then among it.
    asked = [np.where(area.texts.wrapped_whole, 0, area.texts.question_words) for area in areas]
    sizes = np.concatenate([np.empty(0, np.int64), *asked]).clip(max=RUN_WORDS)
    prompts = [area.texts.sought_of(row) for area in areas for row in range(len(area.texts.lines))]
    ends = [ngrams(prompt[-size:], int(size))[0] if size else 0 for prompt, size in zip(prompts, sizes, strict=True)]
    return sizes, np.array(ends, np.uint64)


def _distinguishing(parts: list[tuple[np.ndarray, np.ndarray]]) -> _Table:
    """The runs of at most `MOST_SHARING` items, once for each item."""
    keys = np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in parts)])
    items = np.concatenate([np.empty(0, np.int64), *(items for _, items in parts)])
    table = _Table.of(keys, items)
    new = np.ones(len(keys), bool)
    new[1:] = (table.keys[1:] != table.keys[:-1]) | (table.items[1:] != table.items[:-1])
    table = _Table(table.keys[new], table.items[new])
    _, group, counts = np.unique(table.keys, return_inverse=True, return_counts=True)
    few = counts[group] <= MOST_SHARING
    return _Table(table.keys[few], table.items[few])
