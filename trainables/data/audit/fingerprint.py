"""What the audit compares of a sample: a row of numbers, hashes of its words, keys for near duplicates."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

import numpy as np

from trainables.data.audit.duplicates import Shingles, band_keys, shingles
from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import hash64, normalize, word_hashes, words
from trainables.data.audit.wrappers import Wrappers
from trainables.data.defects import excerpt
from trainables.data.samples import Sample, split_prompt

# One row a sample: its line, the length of its response in characters, and hashes of its id, of its exact text, of the
# normalized text, and of the normalized prompt and response.
ROW = np.dtype(
    [
        ("line", np.int64),
        ("characters", np.int64),
        *((name, np.uint64) for name in ("id", "exact", "norm", "prompt", "response")),
    ]
)


# Ours: a shorter prompt must be equal as a whole, since so few words recur by chance.
FEWEST_WORDS = 8


class Fingerprint(NamedTuple):
    """A sample's row, its normalized question, and the words of its parts: a wrapper stands around the core."""

    row: tuple[int, int, int, int, int, int, int]
    question: str
    question_words: list[str]
    words_before: list[str]
    core_words: list[str]
    words_after: list[str]
    response_words: list[str]

    @property
    def prompt_words(self) -> list[str]:
        return [*self.words_before, *self.core_words, *self.words_after]

    @property
    def context_words(self) -> list[str]:
        return self.core_words[: max(0, len(self.core_words) - len(self.question_words))]

    @property
    def wrapper(self) -> int:
        """A hash of the words around the core, 0 where there are none."""
        around = [" ".join(self.words_before), " ".join(self.words_after)]
        return hash64("\0".join(around)) if any(around) else 0


class HashedTexts(NamedTuple):
    """Hashes of the samples of a chunk or of a whole area.

    Attributes:
        lines: (rows,) int64.
        exact, norm, prompt: (rows,) uint64 hashes of the exact text, the normalized text, the normalized prompt.
        core: (rows,) uint64 hashes of the prompt's core, without the wrapper around it, and of the response.
        wrapper: (rows,) uint64 hashes of the wrapper, 0 where there is none.
        words: Word hashes of prompt and response.
        prompt_words: (rows,) int64: number of the prompt's words.
        core_start, core_words: (rows,) int64: the first word of the core and the number of its words.
        question_words: (rows,) int64: number of the question's words, which end the core.
    """

    lines: np.ndarray
    exact: np.ndarray
    norm: np.ndarray
    prompt: np.ndarray
    core: np.ndarray
    wrapper: np.ndarray
    words: Flat
    prompt_words: np.ndarray
    core_start: np.ndarray
    core_words: np.ndarray
    question_words: np.ndarray

    @property
    def wrapped_whole(self) -> np.ndarray:
        """(rows,) bool: whether the core is too short to be known without its wrapper."""
        return (self.wrapper != 0) & (self.core_words < FEWEST_WORDS)

    def prompt_of(self, row: int) -> np.ndarray:
        return self.words.row(row)[: self.prompt_words[row]]

    def core_of(self, row: int) -> np.ndarray:
        start = self.core_start[row]
        return self.words.row(row)[start : start + self.core_words[row]]

    def sought_of(self, row: int) -> np.ndarray:
        """The words by which an item is found in other texts: its core, or all its prompt where that is too short."""
        return self.prompt_of(row) if self.wrapped_whole[row] else self.core_of(row)

    @classmethod
    def joined(cls, parts: list[HashedTexts]) -> HashedTexts:
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields if name != "words"
        }
        return cls(words=Flat.joined([part.words for part in parts]), **joined)


def question_excerpt(sample: Sample, wrappers: Wrappers) -> str:
    """The start of a sample's question, by which a user recognizes samples of one context."""
    asked = _sides(sample)[0]
    return excerpt(split_prompt(asked[slice(*wrappers.span(asked))])[1])


def _sides(sample: Sample) -> tuple[str, str]:
    """A sample's prompt and response. A text that nothing asks for is compared as prompts are."""
    prompt = sample.prompt
    return (prompt, sample.response) if prompt.strip() else (sample.response, "")


def compared_prompt(sample: Sample) -> str:
    """The text of a sample that the audit compares as its prompt."""
    return _sides(sample)[0]


def sample_shingles(sample: Sample, wrappers: Wrappers) -> Shingles:
    """The shingles that decide whether a sample is a near duplicate of another."""
    fingerprint = fingerprint_of(sample, wrappers)
    return shingles(fingerprint.question, word_hashes(fingerprint.context_words))


def fingerprint_of(sample: Sample, wrappers: Wrappers) -> Fingerprint:
    asked, answered = _sides(sample)
    prompt, response = normalize(asked), normalize(answered)
    start, end = wrappers.span(asked)
    core = asked[start:end]
    # `split_prompt` knows "Question:" only in this case; normalized, all cases of it are one.
    question = normalize(split_prompt(core)[1]).removeprefix("question:").strip()
    # Equal turns with other tools or other reasoning are another sample, and ask or teach something else.
    other = f"\0{unwritten}" if (unwritten := sample.unwritten) else ""
    row = (
        sample.line,
        len(sample.response),
        hash64(sample.id),
        hash64(_exact_text(sample)),
        hash64(f"{prompt}\0{response}{other}"),
        hash64(prompt + other),
        hash64(response + other),
    )
    before, after = words(normalize(asked[:start])), words(normalize(asked[end:]))
    inside = words(normalize(core) if before or after else prompt)
    return Fingerprint(row, question, words(question), before, inside, after, words(response))


def hashed_texts(prints: list[Fingerprint], rows: np.ndarray) -> HashedTexts:
    parts = [(one.prompt_words, one.response_words) for one in prints]
    asked = np.array([len(one.question_words) for one in prints], np.int64)
    sizes = np.array([[len(part) for part in both] for both in parts], np.int64).reshape(-1, 2)
    cores = np.array([(len(one.words_before), len(one.core_words)) for one in prints], np.int64).reshape(-1, 2)
    hashes = word_hashes(chain.from_iterable(chain.from_iterable(parts)))
    return HashedTexts(
        lines=rows["line"],
        exact=rows["exact"],
        norm=rows["norm"],
        prompt=rows["prompt"],
        core=rows["response"] ^ np.array([hash64(" ".join(one.core_words)) for one in prints], np.uint64),
        wrapper=np.array([one.wrapper for one in prints], np.uint64),
        words=Flat(hashes, np.cumsum(sizes.sum(axis=1))),
        prompt_words=sizes[:, 0],
        core_start=cores[:, 0],
        core_words=cores[:, 1],
        question_words=np.minimum(asked, cores[:, 1]),
    )


def near_duplicate_keys(prints: list[Fingerprint], texts: HashedTexts) -> np.ndarray:
    # Near duplicates must agree in their figures, their wrapper and their response, which is the last hash of a row.
    figures = [hash64(" ".join(word for word in one.prompt_words if word.isdecimal())) for one in prints]
    same = np.array([one.row[-1] ^ figure for one, figure in zip(prints, figures, strict=True)], np.uint64)
    starts, sizes = texts.core_start, texts.core_words - texts.question_words
    contexts = Flat.of([texts.words.row(i)[starts[i] : starts[i] + size] for i, size in enumerate(sizes)])
    return band_keys([one.question for one in prints], contexts, same ^ texts.wrapper)


def _exact_text(sample: Sample) -> str:
    turns = "\0".join(f"{key}\0{message[key]}" for message in sample.messages for key in sorted(message))
    return "\0".join([turns, *([sample.text] if sample.text else []), *([str(sample.tools)] if sample.tools else [])])
