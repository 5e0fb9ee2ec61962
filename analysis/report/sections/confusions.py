"""Wrong answers where the answers are labels: which label stands for which, most often first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from analysis.report.elements.blocks import Table
from trainables.data.answer_text import squad_normalize

# An area's answers are labels where each has at most so many words and nearly each is known from elsewhere. Ours.
MOST_WORDS, LABELED = 5, 0.9
SHOWN = 12
NO_LABEL = "(no label)"


@dataclass(frozen=True)
class Answered:
    """An item's expected answer, and what the base model and the best checkpoint wrote."""

    area: str
    expected: str
    base: str
    best: str


def section_table(answers: Sequence[Answered], training: Callable[[], Iterable[str]]) -> Table | None:
    """The most frequent confusions of the best checkpoint, beside the base model's; None without labels.

    Args:
        answers: All answered items.
        training: Reads the training set's responses, which tell labels from other short answers.
    """
    short = [area for area in sorted({one.area for one in answers}) if _is_short(_of(answers, area))]
    if not short:
        return None
    known = {squad_normalize(text) for text in training()}
    rows = []
    for area in short:
        own = _of(answers, area)
        labels = {squad_normalize(one.expected) for one in own}
        if sum(squad_normalize(one.expected) in known for one in own) < LABELED * len(own):
            continue
        best = confusions([(one.expected, one.best) for one in own], labels | known)
        base = confusions([(one.expected, one.base) for one in own], labels | known)
        rows += [(count, area, pair, base[pair]) for pair, count in best.items()]
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    cells = [
        [area, expected, answered, _note(expected, answered), str(count), str(before)]
        for count, area, (expected, answered), before in rows[:SHOWN]
    ]
    header = ["area", "expected label", "answered", "note", "items, best", "items, base"]
    caption = f"Most frequent confusions of the best ({len(rows)} in all); labels as exact match compares them"
    return Table(caption, header, cells, words=4) if cells else None


def confusions(answers: Iterable[tuple[str, str]], labels: Collection[str]) -> Counter[tuple[str, str]]:
    """Counts wrong answers as (expected label, label or `NO_LABEL` that was answered), normalized as by SQuAD.

    An answer that has the same words as its label in another order is counted by its own words.
    """
    found: Counter[tuple[str, str]] = Counter()
    for expected, answer in answers:
        wanted, got = squad_normalize(expected), squad_normalize(answer)
        if got != wanted:
            found[wanted, got if got in labels or _same_words(wanted, got) else NO_LABEL] += 1
    return found


def _of(answers: Iterable[Answered], area: str) -> list[Answered]:
    return [one for one in answers if one.area == area]


def _is_short(answers: Iterable[Answered]) -> bool:
    return all(len(one.expected.split()) <= MOST_WORDS for one in answers)


def _same_words(first: str, second: str) -> bool:
    return sorted(first.split()) == sorted(second.split())


def _note(expected: str, answered: str) -> str:
    return "the same words: token F1 is 1" if _same_words(expected, answered) else ""
