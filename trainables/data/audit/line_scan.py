"""Scan a chunk of lines: the findings of single lines, and the numbers that compare them with other lines.

Worker processes share this work. Only lines and arrays of numbers cross between processes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from trainables.config.data_sections import FieldNames
from trainables.data.audit.duplicates import Shingles, band_keys, shingles
from trainables.data.audit.leakage import HashedTexts, HeldoutIndex, Match
from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import control_character, garbled, hash64, normalize, word_hashes, words
from trainables.data.audit.outliers import MarkerCodes, markers
from trainables.data.audit.report import Hit
from trainables.data.defects import Defect, excerpt, location
from trainables.data.json_lines import RawLine, Record
from trainables.data.samples import Sample, parse_sample, split_prompt, unread_keys

Chunk = list[RawLine | Record | Defect]

# One row a sample: its line, the length of its response in characters, and hashes of its id, of its exact text, of the
# normalized text, and of the normalized prompt and response.
ROW = np.dtype(
    [
        ("line", np.int64),
        ("characters", np.int64),
        *((name, np.uint64) for name in ("id", "exact", "norm", "prompt", "response")),
    ]
)


class ScanSpec(NamedTuple):
    """Everything that a worker needs to scan lines of one data set.

    Attributes:
        path: The file as the config names it.
        fields: Names of the keys.
        heldout: The held-out items to look for.
        rule: The rule that a held-out item breaks, `leakage` or `area_overlap`.
        keep_texts: Whether to return the texts' hashes, which a held-out area's index is built from.
        form: As `data.format`.
    """

    path: str
    fields: FieldNames
    heldout: HeldoutIndex
    rule: str
    keep_texts: bool
    form: str = "auto"


@dataclass
class ChunkScan:
    """Scan of one chunk.

    Attributes:
        lines: Number of lines.
        hits: Findings of single lines, in no order.
        matched: (area, line) of every held-out item that was found.
        rows: (samples,) of `ROW`.
        bands: (samples, bands) uint64 keys for near duplicates.
        markers: Codes of each sample's format.
        names: Format markers by code, those new in this chunk.
        texts: The samples' hashed texts, if `ScanSpec.keep_texts`.
        seconds: CPU time of each kind of rule.
        forms: Number of samples of each form.
        unread: Number of samples with each key that nothing reads.
    """

    lines: int
    hits: list[Hit]
    rows: np.ndarray
    bands: np.ndarray
    markers: Flat
    names: dict[int, str]
    texts: HashedTexts | None = None
    matched: list[tuple[str, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    forms: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)


class _Fingerprint(NamedTuple):
    """A sample's row, its normalized question, and the words of question, prompt and response."""

    row: tuple[int, int, int, int, int, int, int]
    question: str
    question_words: list[str]
    prompt_words: list[str]
    response_words: list[str]

    @property
    def context_words(self) -> list[str]:
        return self.prompt_words[: max(0, len(self.prompt_words) - len(self.question_words))]


class Scanner:
    """Scans lines of one data set."""

    def __init__(self, spec: ScanSpec) -> None:
        self._spec = spec
        self._codes = MarkerCodes()

    def scan(self, chunk: Chunk) -> ChunkScan:
        seconds: dict[str, float] = {}
        with _timed(seconds, "lines"):
            samples, hits = self._samples(chunk)
        with _timed(seconds, "mojibake"):
            hits += self._text_hits(samples, "mojibake")
        with _timed(seconds, "control_characters"):
            hits += self._text_hits(samples, "control_characters")
        with _timed(seconds, "fingerprints"):
            prints = [_fingerprint(sample) for sample in samples]
            rows = np.array([one.row for one in prints], ROW)
            texts = _texts(prints, rows)
        with _timed(seconds, "near_duplicate"):
            bands = _bands(prints, texts)
        with _timed(seconds, "leakage"):
            matches = self._spec.heldout.find(texts)
            hits += [self._hit(match, samples[match.row]) for match in matches]
        with _timed(seconds, "format_departure"):
            codes = [sorted(map(self._codes.code, markers(sample))) for sample in samples]
        areas = self._spec.heldout.areas
        return ChunkScan(
            lines=len({one.line for one in chunk}),
            hits=hits,
            rows=rows,
            bands=bands,
            markers=Flat.of([np.array(one, np.uint64) for one in codes]),
            names=self._codes.pop_new_names(),
            texts=texts if self._spec.keep_texts else None,
            matched=[(areas[match.area].name, samples[match.row].line) for match in matches],
            seconds=seconds,
            forms=Counter(sample.form for sample in samples),
            unread=Counter(chain.from_iterable(map(unread_keys, samples))),
        )

    def _samples(self, chunk: Chunk) -> tuple[list[Sample], list[Hit]]:
        samples: list[Sample] = []
        defects: list[Defect] = []
        for raw in chunk:
            found = parse_sample(self._spec.path, raw, self._spec.fields, self._spec.form)
            if isinstance(found, Sample):
                samples.append(found)
            else:
                defects += found
        return samples, [Hit(defect.rule, defect.line, defect.got) for defect in defects]

    def _text_hits(self, samples: list[Sample], rule: str) -> Iterator[Hit]:
        excerpt_of = garbled if rule == "mojibake" else control_character
        for sample in samples:
            texts = [sample.text or "", *(message["content"] for message in sample.messages)]
            got = next(filter(None, map(excerpt_of, texts)), None)
            if got is not None:
                yield Hit(rule, sample.line, got)

    def _hit(self, match: Match, sample: Sample) -> Hit:
        area = self._spec.heldout.areas[match.area]
        related = f"{location(area.path, int(area.texts.lines[match.item]))} (area {area.name})"
        got = f"{question_excerpt(sample)}, {match.describe()}"
        return Hit(self._spec.rule, sample.line, got, related)


def question_excerpt(sample: Sample) -> str:
    """The start of a sample's question, by which a user recognizes samples of one context."""
    return excerpt(split_prompt(_sides(sample)[0])[1])


def _sides(sample: Sample) -> tuple[str, str]:
    """A sample's prompt and response. A text that nothing asks for is compared as prompts are."""
    prompt = sample.prompt
    return (prompt, sample.response) if prompt.strip() else (sample.response, "")


def sample_shingles(sample: Sample) -> Shingles:
    """The shingles that decide whether a sample is a near duplicate of another."""
    fingerprint = _fingerprint(sample)
    return shingles(fingerprint.question, word_hashes(fingerprint.context_words))


def _fingerprint(sample: Sample) -> _Fingerprint:
    asked, answered = _sides(sample)
    prompt, response = normalize(asked), normalize(answered)
    # `split_prompt` knows "Question:" only in this case; normalized, all cases of it are one.
    question = normalize(split_prompt(asked)[1]).removeprefix("question:").strip()
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
    return _Fingerprint(row, question, words(question), words(prompt), words(response))


def _texts(prints: list[_Fingerprint], rows: np.ndarray) -> HashedTexts:
    parts = [(one.prompt_words, one.response_words) for one in prints]
    asked = np.array([len(one.question_words) for one in prints], np.int64)
    sizes = np.array([[len(part) for part in both] for both in parts], np.int64).reshape(-1, 2)
    hashes = word_hashes(chain.from_iterable(chain.from_iterable(parts)))
    return HashedTexts(
        lines=rows["line"],
        exact=rows["exact"],
        norm=rows["norm"],
        prompt=rows["prompt"],
        words=Flat(hashes, np.cumsum(sizes.sum(axis=1))),
        prompt_words=sizes[:, 0],
        question_words=np.minimum(asked, sizes[:, 0]),
    )


def _bands(prints: list[_Fingerprint], texts: HashedTexts) -> np.ndarray:
    # Near duplicates must agree in their figures and in the response, which is the last hash of a row.
    figures = [hash64(" ".join(word for word in one.prompt_words if word.isdecimal())) for one in prints]
    same = np.array([one.row[-1] ^ figure for one, figure in zip(prints, figures, strict=True)], np.uint64)
    context_sizes = texts.prompt_words - texts.question_words
    contexts = Flat.of([texts.words.row(i)[:size] for i, size in enumerate(context_sizes)])
    return band_keys([one.question for one in prints], contexts, same)


def _exact_text(sample: Sample) -> str:
    turns = "\0".join(f"{key}\0{message[key]}" for message in sample.messages for key in sorted(message))
    return "\0".join([turns, *([sample.text] if sample.text else []), *([str(sample.tools)] if sample.tools else [])])


@contextmanager
def _timed(seconds: dict[str, float], kind: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds[kind] = time.process_time() - start
