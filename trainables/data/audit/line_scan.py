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
from trainables.data.audit.fingerprint import (
    ROW,
    Fingerprint,
    fingerprint_of,
    hashed_texts,
    near_duplicate_keys,
    question_excerpt,
)
from trainables.data.audit.leakage import HashedTexts, HeldoutIndex, Match
from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import control_character, garbled
from trainables.data.audit.outliers import MarkerCodes, markers
from trainables.data.audit.report import Hit
from trainables.data.audit.wrappers import NO_WRAPPERS, Wrappers
from trainables.data.defects import Defect, excerpt, location
from trainables.data.json_lines import RawLine, Record
from trainables.data.samples import Sample, parse_sample, unread_keys

Chunk = list[RawLine | Record | Defect]


class ScanSpec(NamedTuple):
    """Everything that a worker needs to scan lines of one data set.

    Attributes:
        path: The file as the config names it.
        fields: Names of the keys.
        heldout: The held-out items to look for.
        rule: The rule that a held-out item breaks, `leakage` or `area_overlap`.
        keep_texts: Whether to return the texts' hashes, which a held-out area's index is built from.
        form: As `data.format`.
        wrappers: Constant texts around the prompts of all data sets, which are not compared.
    """

    path: str
    fields: FieldNames
    heldout: HeldoutIndex
    rule: str
    keep_texts: bool
    form: str = "auto"
    wrappers: Wrappers = NO_WRAPPERS


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
            prints = [fingerprint_of(sample, self._spec.wrappers) for sample in samples]
            rows = np.array([one.row for one in prints], ROW)
            texts = hashed_texts(prints, rows)
        with _timed(seconds, "near_duplicate"):
            bands = near_duplicate_keys(prints, texts)
        with _timed(seconds, "leakage"):
            matches = self._spec.heldout.find(texts)
            hits += [self._hit(match, samples[match.row], prints[match.row], texts) for match in matches]
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

    def _hit(self, match: Match, sample: Sample, found: Fingerprint, texts: HashedTexts) -> Hit:
        area = self._spec.heldout.areas[match.area]
        related = f"{location(area.path, int(area.texts.lines[match.item]))} (area {area.name})"
        shared = self._spec.heldout.shared_words(match, texts)
        words = [*found.prompt_words, *found.response_words]
        quoted = excerpt(" ".join(words[at] for at in np.flatnonzero(shared)))
        got = f"{question_excerpt(sample, self._spec.wrappers)}, {match.describe(quoted)}"
        return Hit(self._spec.rule, sample.line, got, related)


@contextmanager
def _timed(seconds: dict[str, float], kind: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds[kind] = time.process_time() - start
