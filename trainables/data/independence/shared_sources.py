"""Traces of a common origin of a held-out area and the training set: sources and stretches of context."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.data.independence.texts import SampleText

# Words of a shared run, as in the contamination checks of GPT-3 (Brown et al., 2020, app. C).
RUN_WORDS = 13
EXAMPLES = 5
SHOWN_RUN_CHARACTERS = 160

Run = int  # the hash of a run's words: a fifth of the memory, and 64 bits do not collide here


@dataclass(frozen=True)
class SharedSource:
    """A value of `source` on both sides.

    Attributes:
        source: The value.
        items: Items of the area with it.
        train: Training samples with it.
    """

    source: str
    items: int
    train: int


@dataclass(frozen=True)
class SharedRuns:
    """Items whose context shares a run of 13 or more words with a training context, up to case and punctuation.

    Attributes:
        items: Their number.
        share: Their share of the area.
        longest: Words of the longest stretch of a context that shared runs cover without a gap.
        examples: {"id", "run"}: items with their longest stretch, longest first.
    """

    items: int
    share: float
    longest: int
    examples: list[dict[str, str]]


def shared_sources(train: Sequence[SampleText], area: Sequence[SampleText]) -> list[SharedSource]:
    """The sources on both sides, the area's most common first."""
    trained = Counter(text.source for text in train)
    return [
        SharedSource(source, count, trained[source])
        for source, count in Counter(text.source for text in area).most_common()
        if source is not None and source in trained
    ]


def shared_runs(train: Sequence[SampleText], areas: Mapping[str, Sequence[SampleText]]) -> dict[str, SharedRuns]:
    """Finds the runs that each area's contexts share with training contexts; a prompt without context counts whole."""
    # Training contexts are read once against the areas' runs, so that memory grows with the areas only.
    words = {name: [_words(text) for text in area] for name, area in areas.items()}
    wanted = {run for area in words.values() for item in area for run in _runs(item)}
    shared: set[Run] = set()
    if wanted:
        for context in {text.context or text.question for text in train}:
            shared.update(wanted.intersection(_runs(_split(context))))
    return {name: _summary(areas[name], words[name], shared) for name in areas}


def _summary(area: Sequence[SampleText], words: list[list[str]], shared: set[Run]) -> SharedRuns:
    stretches = [
        (*_longest_stretch(item, shared), text.id, item) for text, item in zip(area, words, strict=True) if shared
    ]
    found = sorted((stretch for stretch in stretches if stretch[0]), key=lambda stretch: -stretch[0])
    return SharedRuns(
        items=len(found),
        share=len(found) / len(area),
        longest=found[0][0] if found else 0,
        examples=[
            {"id": name, "run": _excerpt(" ".join(item[start : start + length]))}
            for length, start, name, item in found[:EXAMPLES]
        ],
    )


def _longest_stretch(words: list[str], shared: set[Run]) -> tuple[int, int]:
    """(words, start) of the longest stretch that shared runs cover without a gap; (0, 0) without one."""
    best, length, start = (0, 0), 0, 0
    for i, run in enumerate(_runs(words)):
        if run not in shared:
            length = 0
            continue
        start = start if length else i
        length += 1
        best = max(best, (length + RUN_WORDS - 1, start), key=lambda stretch: stretch[0])
    return best


def _words(text: SampleText) -> list[str]:
    return _split(text.context or text.question)


def _split(context: str) -> list[str]:
    return re.findall(r"\w+", context.lower())


def _runs(words: list[str]) -> list[Run]:
    return [hash(run) for run in zip(*(words[i:] for i in range(RUN_WORDS)), strict=False)]


def _excerpt(text: str) -> str:
    return text if len(text) <= SHOWN_RUN_CHARACTERS else text[: SHOWN_RUN_CHARACTERS - 1] + "…"
