"""Lines that repeat or contradict an earlier line.

Near duplicates are judged on what is not shared. Many sound samples ask different questions about one long context, so
that their whole texts are nearly equal; and classification data asks one question about many contexts. Two samples
repeat each other when their questions *and* their contexts are alike, and all figures and the response are the same.

MinHash finds candidates, the texts decide. MinHash is rensa's: written in Rust, with wheels for CPython 3.11 to 3.13 on
Linux and macOS, and released this year; it takes hashed shingles as one NumPy array and needs a microsecond a sample.
datasketch is kept as well, but Python with an object a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from rensa import RMinHash

from trainables.data.audit.ngrams import Flat, ngrams, row_ngrams
from trainables.data.audit.normalization import mixed, words

# Ours. A pair with a Jaccard similarity of 0.7 in the question and 1 in the context shares a band of
# 4 + 4 rows with probability 0.7**4 = 0.24, and one of 16 bands with 0.988; at 0.6 with 0.89.
HASHES, BANDS = 64, 16
ROWS = HASHES // BANDS
SEED = 1
QUESTION_SIMILARITY = 0.6
CONTEXT_SIMILARITY = 0.9
# Ours. One other word makes another question ("owed by", "owed to"), so that the words decide in the end. A word may be
# misspelt or inflected, which keeps its first letter and most others ("impossible" is not "possible"); a long text may
# also have one word in fifty more.
WORD_SIMILARITY = 0.8
OTHER_WORDS = 0.02
QUESTION_BYTES = 5
QUESTION_CHARACTERS = 20_000  # the start of a longer question stands for it
CONTEXT_WORDS = 3
# Below this many shingles a change of one letter is a change of a tenth: short texts must be equal.
FEWEST_SHINGLES = 12


class Shingles(NamedTuple):
    """What of a sample is compared: its question, byte runs of that, word runs of its context."""

    asked: str
    question: np.ndarray
    context: np.ndarray


def question_shingles(question: str) -> np.ndarray:
    """(runs,) uint64: every run of five bytes of a normalized question."""
    return ngrams(_octets(question), QUESTION_BYTES)


def _octets(text: str) -> np.ndarray:
    return np.frombuffer(text[:QUESTION_CHARACTERS].encode(), np.uint8).astype(np.uint64)


def band_keys(questions: list[str], contexts: Flat, same: np.ndarray) -> np.ndarray:
    """(rows, BANDS) uint64: rows that share a key in any column may be near duplicates; 0 where a text is too short.

    Args:
        questions: Normalized.
        contexts: Word hashes.
        same: (rows,) uint64: what must be equal in near duplicates.
    """
    asked = _within_rows(Flat.of([_octets(question) for question in questions]), QUESTION_BYTES)
    read = _within_rows(contexts, CONTEXT_WORDS)
    signatures = np.concatenate([_signatures(asked), _signatures(read)], axis=1)
    keys = np.repeat(mixed(same)[:, None], BANDS, axis=1)
    for i in range(ROWS):
        for part in (0, HASHES):
            keys = mixed(keys ^ signatures[:, part + i : part + HASHES : ROWS])
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
    """(rows,) the first row that has the same key; a row itself where it is the first."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return first[group]


def candidates(columns: Iterable[np.ndarray], considered: np.ndarray) -> np.ndarray:
    """(pairs, 2) rows, later and earlier, that share a key: each with the first and the last one before it.

    So at most two pairs a row and column: many rows of one key do not become all their pairs.

    Args:
        columns: (rows,) keys, as often as there are bands.
        considered: (rows,) which rows can be near duplicates.
    """
    pairs = np.empty(0, np.uint64)
    for keys in columns:
        rows = np.flatnonzero(considered & (keys != 0))
        order = rows[np.argsort(keys[rows], kind="stable")]
        together = np.flatnonzero(keys[order[1:]] == keys[order[:-1]]) + 1
        later, before = order[together], order[together - 1]
        first = rows[first_of(keys[rows])[np.searchsorted(rows, later)]]
        found = [later.astype(np.uint64) << np.uint64(32) | other.astype(np.uint64) for other in (before, first)]
        pairs = np.union1d(pairs, np.concatenate(found))
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def shingles(question: str, context: np.ndarray) -> Shingles:
    """The distinct shingles of a normalized question and of a context's word hashes."""
    together = min(CONTEXT_WORDS, max(len(context), 1))
    return Shingles(question, np.unique(question_shingles(question)), np.unique(ngrams(context, together)))


def alike(one: Shingles, other: Shingles) -> bool:
    """Whether two samples repeat each other, given that their figures and responses are the same."""
    return (
        _jaccard(one.question, other.question) >= QUESTION_SIMILARITY
        and _jaccard(one.context, other.context) >= CONTEXT_SIMILARITY
        and _same_words(one.asked, other.asked)
    )


def _same_words(one: str, other: str) -> bool:
    """Whether two questions have the same words, but for spelling, and for a few more in a long one."""
    have, want = Counter(words(one)), Counter(words(other))
    missing = list((want - have).elements())
    extra = []
    for word in (have - want).elements():
        partner = next((other for other in missing if _respelt(word, other)), None)
        if partner is None:
            extra.append(word)
        else:
            missing.remove(partner)
    return not (extra and missing) and len(extra + missing) <= OTHER_WORDS * have.total()


def _respelt(one: str, other: str) -> bool:
    return one[0] == other[0] and SequenceMatcher(None, one, other, autojunk=False).ratio() >= WORD_SIMILARITY


def _jaccard(one: np.ndarray, other: np.ndarray) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    union = len(one) + len(other) - common
    return common / union if union else 1.0


def conflicts(prompts: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose prompt an earlier row has with another response, and the first such row of each."""
    first = first_of(prompts)
    rows = np.flatnonzero(responses != responses[first])
    return rows, first[rows]
