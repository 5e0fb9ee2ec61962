"""Find lines that repeat or contradict an earlier line.

Two samples are near duplicates if their questions *and* their contexts are similar, and all figures and the response
are equal. Whole texts would not do: many sound samples ask different questions about one long context, and
classification data asks one question about many contexts.

MinHash proposes candidates, the texts decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from rensa import RMinHash

from trainables.data.audit.ngrams import Flat, ngrams, row_ngrams
from trainables.data.audit.normalization import mixed, words

# MinHash is rensa's: Rust that takes hashed shingles as one array, a microsecond a sample. datasketch is Python with an
# object for each sample.
# Ours. A pair with a Jaccard similarity of 0.7 in the question and 1 in the context shares a band of
# 4 + 4 rows with probability 0.7**4 = 0.24, and one of 16 bands with 0.988; at 0.6 with 0.89.
HASHES, BANDS = 64, 16
BAND_ROWS = HASHES // BANDS
SEED = 1
QUESTION_SIMILARITY = 0.6
CONTEXT_SIMILARITY = 0.9
# Ours. A single word makes another question ("owed by", "owed to"), so that words decide in the end. A word may be
# misspelled or inflected, which keeps its first letter and most others ("impossible" is not "possible"). A long text
# may also have one word in fifty more.
WORD_SIMILARITY = 0.8
OTHER_WORDS = 0.02
QUESTION_BYTES = 5
QUESTION_CHARACTERS = 20_000  # of a longer question only the start is compared
CONTEXT_WORDS = 3
# In fewer shingles a change of one letter is a change of a tenth: such short texts must be equal.
FEWEST_SHINGLES = 12


class Shingles(NamedTuple):
    """A sample's normalized question, the hashes of its byte runs, and those of the context's word runs."""

    asked: str
    question: np.ndarray
    context: np.ndarray


def question_shingles(question: str) -> np.ndarray:
    """(runs,) uint64: every run of five bytes of a normalized question."""
    return ngrams(_octets(question), QUESTION_BYTES)


def _octets(text: str) -> np.ndarray:
    return np.frombuffer(text[:QUESTION_CHARACTERS].encode(), np.uint8).astype(np.uint64)


def band_keys(questions: list[str], contexts: Flat, same: np.ndarray) -> np.ndarray:
    """(rows, BANDS) uint64: rows with an equal key in any column may be near duplicates; 0 for too short texts.

    Args:
        questions: Normalized.
        contexts: Word hashes.
        same: (rows,) uint64 hashes that are equal in near duplicates.
    """
    asked = _within_rows(Flat.of([_octets(question) for question in questions]), QUESTION_BYTES)
    read = _within_rows(contexts, CONTEXT_WORDS)
    signatures = np.concatenate([_signatures(asked), _signatures(read)], axis=1)
    keys = np.repeat(mixed(same)[:, None], BANDS, axis=1)
    for i in range(BAND_ROWS):
        for part in (0, HASHES):
            keys = mixed(keys ^ signatures[:, part + i : part + HASHES : BAND_ROWS])
    keys[asked.counts < FEWEST_SHINGLES] = 0
    return keys


def _within_rows(rows: Flat, n: int) -> Flat:
    runs, row_of = row_ngrams(rows, n)
    return Flat(runs, np.cumsum(np.bincount(row_of, minlength=len(rows.ends))))


def _signatures(shingles: Flat) -> np.ndarray:
    """(rows, HASHES) uint64 MinHash signatures."""
    offsets = np.concatenate([[0], shingles.ends]).astype(np.uint64)
    values = mixed(shingles.values)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(values, offsets, HASHES, SEED).to_rows()
    return np.array(rows, np.uint64).reshape(len(shingles.ends), HASHES)


def first_of(keys: np.ndarray) -> np.ndarray:
    """(rows,) the first row with the same key, which may be the row itself."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return first[group]


def candidates(columns: Iterable[np.ndarray], considered: np.ndarray) -> np.ndarray:
    """(pairs, 2) later and earlier rows that share a key.

    Args:
        columns: (rows,) keys of each band.
        considered: (rows,) bool, the rows that can be near duplicates.
    """
    pairs = np.empty(0, np.uint64)
    for keys in columns:
        rows = np.flatnonzero(considered & (keys != 0))
        order = rows[np.argsort(keys[rows], kind="stable")]
        together = np.flatnonzero(keys[order[1:]] == keys[order[:-1]]) + 1
        # Each row is paired with the first and with the previous row of its key, not with all: pairs stay linear.
        later, before = order[together], order[together - 1]
        first = rows[first_of(keys[rows])[np.searchsorted(rows, later)]]
        # Two rows in one integer: np.union1d then removes equal pairs of several bands in one sort.
        found = [later.astype(np.uint64) << np.uint64(32) | other.astype(np.uint64) for other in (before, first)]
        pairs = np.union1d(pairs, np.concatenate(found))
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def shingles(question: str, context: np.ndarray) -> Shingles:
    """The distinct shingles of a normalized question and of a context's word hashes."""
    # A context of fewer words is one run.
    together = min(CONTEXT_WORDS, max(len(context), 1))
    return Shingles(question, np.unique(question_shingles(question)), np.unique(ngrams(context, together)))


def are_near_duplicates(one: Shingles, other: Shingles) -> bool:
    """Whether two samples with equal figures and responses are near duplicates."""
    return (
        _jaccard(one.question, other.question) >= QUESTION_SIMILARITY
        and _jaccard(one.context, other.context) >= CONTEXT_SIMILARITY
        and _same_words(one.asked, other.asked)
    )


def _same_words(one: str, other: str) -> bool:
    """Whether two questions have the same words in order, up to spelling and a few additional ones in a long text."""
    have, want = words(one), words(other)
    added = {"insert": 0, "delete": 0}
    for change, start, end, at, to in SequenceMatcher(None, have, want, autojunk=False).get_opcodes():
        if change in added:
            added[change] += end - start + to - at
        elif change == "replace" and (end - start != to - at or not all(map(_respelled, have[start:end], want[at:to]))):
            return False
    return not all(added.values()) and sum(added.values()) <= OTHER_WORDS * len(have)


def _respelled(one: str, other: str) -> bool:
    return one[0] == other[0] and SequenceMatcher(None, one, other, autojunk=False).ratio() >= WORD_SIMILARITY


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    union = len(one) + len(other) - common
    return common / union if union else 1.0


def conflicts(prompts: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose response differs from that of the first row with the same prompt; and these first rows."""
    first = first_of(prompts)
    rows = np.flatnonzero(responses != responses[first])
    return rows, first[rows]
