"""Some lines of a data file at a time: everything that one line alone shows, and the numbers that compare it to others.

This is the work that worker processes share; what crosses between processes are lines, and arrays of numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np

from trainables.config.sections import FieldNames
from trainables.data.audit.duplicates import Shingles, band_keys, shingles
from trainables.data.audit.leakage import HeldoutIndex, Match, Texts
from trainables.data.audit.ngrams import Flat
from trainables.data.audit.normalization import control_character, garbled, hash64, normalize, word_hashes, words
from trainables.data.audit.outliers import MarkerCodes, markers
from trainables.data.audit.report import Hit
from trainables.data.defects import Defect, excerpt, place
from trainables.data.json_lines import RawLine, Record, parse_line
from trainables.data.samples import Sample, check_record, split_prompt

Chunk = list[RawLine | Record | Defect]

# One row a sample: its line, the length of its response in characters, and hashes of its id, of its text as it is,
# of the normalized text, and of the normalized prompt and response alone.
ROW = np.dtype(
    [
        ("line", np.int64),
        ("characters", np.int64),
        *((name, np.uint64) for name in ("id", "exact", "norm", "prompt", "response")),
    ]
)


class Source(NamedTuple):
    """What a worker must know of the data set that its lines come from.

    Attributes:
        path: The file as the config names it.
        fields: Names of the keys.
        heldout: The held-out items to look for.
        rule: What holding one breaks, `leakage` or `area_overlap`.
        keep_texts: Whether the texts' words are wanted, as those of a held-out area are.
    """

    path: str
    fields: FieldNames
    heldout: HeldoutIndex
    rule: str
    keep_texts: bool


@dataclass
class Scanned:
    """What some lines gave; `hits` are those that one line alone shows.

    Attributes:
        lines: Lines read.
        hits: In no order.
        matched: (area, line) of every held-out item that was found.
        rows: (samples,) of `ROW`.
        bands: (samples, bands) uint64, for near duplicates.
        markers: Codes of each sample's format.
        names: Markers by code, those first seen here.
        texts: The words of the samples, where they are wanted.
        seconds: CPU time of each kind of rule.
    """

    lines: int
    hits: list[Hit]
    rows: np.ndarray
    bands: np.ndarray
    markers: Flat
    names: dict[int, str]
    texts: Texts | None = None
    matched: list[tuple[str, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class _Prints(NamedTuple):
    """A sample's row, its normalized question, and its words: the question's, those of the prompt, the response's."""

    row: tuple[int, int, int, int, int, int, int]
    question: str
    asked: list[str]
    prompt: list[str]
    response: list[str]

    @property
    def told(self) -> list[str]:
        """The context's words."""
        return self.prompt[: max(0, len(self.prompt) - len(self.asked))]


class Scanner:
    """Looks at lines of one data set.

    Args:
        source: Where the lines come from, and what to look for.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._codes = MarkerCodes()

    def scan(self, chunk: Chunk) -> Scanned:
        """Everything about some lines."""
        seconds: dict[str, float] = {}
        with _timed(seconds, "lines"):
            samples, hits = self._samples(chunk)
        with _timed(seconds, "mojibake"):
            hits += self._text_hits(samples, "mojibake")
        with _timed(seconds, "control_characters"):
            hits += self._text_hits(samples, "control_characters")
        with _timed(seconds, "fingerprints"):
            prints = [_prints(sample) for sample in samples]
            rows = np.array([one.row for one in prints], ROW)
            texts = _texts(prints, rows)
        with _timed(seconds, "near_duplicate"):
            bands = _bands(prints, texts)
        with _timed(seconds, "leakage"):
            matches = self._source.heldout.find(texts)
            hits += [self._hit(match, samples[match.row]) for match in matches]
        with _timed(seconds, "format_departure"):
            codes = [sorted(map(self._codes.code, markers(sample))) for sample in samples]
        areas = self._source.heldout.areas
        return Scanned(
            lines=len({one.line for one in chunk}),
            hits=hits,
            rows=rows,
            bands=bands,
            markers=Flat.of([np.array(one, np.uint64) for one in codes]),
            names=self._codes.taken(),
            texts=texts if self._source.keep_texts else None,
            matched=[(areas[match.area].name, samples[match.row].line) for match in matches],
            seconds=seconds,
        )

    def _samples(self, chunk: Chunk) -> tuple[list[Sample], list[Hit]]:
        samples: list[Sample] = []
        defects: list[Defect] = []
        for one in chunk:
            found = parse_line(self._source.path, *one) if isinstance(one, RawLine) else one
            if isinstance(found, Record):
                checked = check_record(self._source.path, found, self._source.fields)
                if isinstance(checked, Sample):
                    samples.append(checked)
                    continue
                defects += checked
            else:
                defects.append(found)
        return samples, [Hit(defect.rule, defect.line, defect.got) for defect in defects]

    def _text_hits(self, samples: list[Sample], rule: str) -> Iterator[Hit]:
        look = garbled if rule == "mojibake" else control_character
        for sample in samples:
            got = next(filter(None, (look(message["content"]) for message in sample.messages)), None)
            if got is not None:
                yield Hit(rule, sample.line, got)

    def _hit(self, match: Match, sample: Sample) -> Hit:
        area = self._source.heldout.areas[match.area]
        related = f"{place(area.path, int(area.texts.lines[match.item]))} (area {area.name})"
        got = f"{question_excerpt(sample)}, {match.in_words()}"
        return Hit(self._source.rule, sample.line, got, related)


def question_excerpt(sample: Sample) -> str:
    """The start of a sample's question, which tells samples of one context apart."""
    return excerpt(split_prompt(sample.prompt)[1].strip())


def compared(sample: Sample) -> Shingles:
    """What of a sample tells whether it is a near duplicate of another."""
    prints = _prints(sample)
    return shingles(prints.question, word_hashes(prints.told))


def _prints(sample: Sample) -> _Prints:
    prompt, response = normalize(sample.prompt), normalize(sample.response)
    question = normalize(split_prompt(sample.prompt)[1]).removeprefix("question:").strip()
    row = (
        sample.line,
        len(sample.response),
        hash64(sample.id),
        hash64(_as_is(sample)),
        hash64(f"{prompt}\0{response}"),
        hash64(prompt),
        hash64(response),
    )
    return _Prints(row, question, words(question), words(prompt), words(response))


def _texts(prints: list[_Prints], rows: np.ndarray) -> Texts:
    parts = [(one.prompt, one.response) for one in prints]
    asked = np.array([len(one.asked) for one in prints], np.int64)
    sizes = np.array([[len(part) for part in both] for both in parts], np.int64).reshape(-1, 2)
    hashes = word_hashes(chain.from_iterable(chain.from_iterable(parts)))
    return Texts(
        lines=rows["line"],
        exact=rows["exact"],
        norm=rows["norm"],
        prompt=rows["prompt"],
        words=Flat(hashes, np.cumsum(sizes.sum(axis=1))),
        prompt_words=sizes[:, 0],
        question_words=np.minimum(asked, sizes[:, 0]),
    )


def _bands(prints: list[_Prints], texts: Texts) -> np.ndarray:
    figures = [hash64(" ".join(word for word in one.prompt if word.isdecimal())) for one in prints]
    same = np.array([one.row[-1] ^ figure for one, figure in zip(prints, figures, strict=True)], np.uint64)
    told = texts.prompt_words - texts.question_words
    contexts = Flat.of([texts.words.row(i)[:size] for i, size in enumerate(told)])
    return band_keys([one.question for one in prints], contexts, same)


def _as_is(sample: Sample) -> str:
    return "\0".join(f"{key}\0{message[key]}" for message in sample.messages for key in sorted(message))


@contextmanager
def _timed(seconds: dict[str, float], kind: str) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds[kind] = time.process_time() - start
