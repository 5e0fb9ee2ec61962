"""Question templates: questions with figures, names and phrases of their context masked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.data.independence.texts import Text

MOST_QUESTION_WORDS = 60
"""A longer question is no template (ours): it repeats only where it is copied, which other rules find."""

MOST_QUESTION_CHARACTERS = 1000
"""Likewise, for texts without spaces."""

FEWEST_LITERAL_WORDS = 5
"""Words that a template needs besides its masks to count (ours): short ones such as "what was the @ in #" come from
everybody. On financial reports the share of items with a training template is then 0.26 for the training set's own
process and 0.06 for another annotator's; with all templates 0.38 and 0.19."""

LONGEST_PHRASE = 12
FIGURE, PHRASE = "#", "@"
MASKS = {FIGURE, PHRASE}
EXAMPLES = 5


@dataclass(frozen=True)
class TemplateOverlap:
    """Questions of an area whose template occurs in training.

    Attributes:
        share: Share of the area's items with a template of at least `FEWEST_LITERAL_WORDS` literal words that occurs
            in training.
        items: Their number.
        within_train: The same share for training samples, looked for in other contexts of the training set: what is
            natural for one process.
        generic: Further items, whose template occurs in training but is short.
        examples: The commonest: {"template", "items", "train"}, with the number of each side's questions.
    """

    share: float
    items: int
    within_train: float
    generic: int
    examples: list[dict[str, str | int]]


class TrainTemplates:
    """The templates of a training set.

    Args:
        texts: The training samples.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        templates = [template(text.question, text.context) for text in texts]
        self._counts = Counter(found for found in templates if found)
        groups: dict[str, set[str]] = {}
        for text, found in zip(texts, templates, strict=True):
            if found:
                groups.setdefault(found, set()).add(text.group)
        repeated = sum(found is not None and is_telling(found) and len(groups[found]) > 1 for found in templates)
        self.within = repeated / len(texts)

    def overlap(self, area: Sequence[Text]) -> TemplateOverlap:
        """What an area's questions share with the training set's."""
        shared = Counter(found for found in _templates(area) if found in self._counts)
        telling = Counter({found: count for found, count in shared.items() if is_telling(found)})
        return TemplateOverlap(
            share=telling.total() / len(area),
            items=telling.total(),
            within_train=self.within,
            generic=shared.total() - telling.total(),
            examples=[
                {"template": found, "items": count, "train": self._counts[found]}
                for found, count in telling.most_common(EXAMPLES)
            ],
        )


def is_telling(found: str) -> bool:
    """True for a template that is too long to be everybody's."""
    return sum(word not in MASKS for word in found.split()) >= FEWEST_LITERAL_WORDS


def template(question: str, context: str) -> str | None:
    """A question in lower case, without punctuation, with masks; None for one that is empty or very long.

    "#" stands for words with a digit, "@" for capitalised words after the first and for phrases of two words or more
    that the context has too; a run of one mask is one mask. "What was Acme's net income in 2019?" over a table with
    a row "Net income" is "what was @ in #".
    """
    if len(question) > MOST_QUESTION_CHARACTERS:
        return None
    words = [word for word in (re.sub(r"^\W+|\W+$", "", part) for part in question.split()) if word]
    if not words or len(words) > MOST_QUESTION_WORDS:
        return None
    masked = [_mask(word, first=i == 0) for i, word in enumerate(words)]
    for start, end in _phrases(words, context):
        masked[start:end] = [found if found in MASKS else PHRASE for found in masked[start:end]]
    kept = [word for i, word in enumerate(masked) if word not in MASKS or i == 0 or masked[i - 1] != word]
    return " ".join(kept)


def _templates(texts: Iterable[Text]) -> list[str]:
    return [found for text in texts if (found := template(text.question, text.context))]


def _mask(word: str, first: bool) -> str:
    if any(character.isdigit() for character in word):
        return FIGURE
    return PHRASE if word[0].isupper() and not first else word.lower()


def _phrases(words: list[str], context: str) -> list[tuple[int, int]]:
    """(start, end) of the longest runs of two words or more that occur in the context, one of them of four letters."""
    haystack = f" {_plain(context)} "
    plain = [_plain(word) for word in words]
    found, start = [], 0
    while start < len(words):
        for end in range(min(len(words), start + LONGEST_PHRASE), start + 1, -1):
            if max(map(len, plain[start:end])) > 3 and f" {' '.join(plain[start:end])} " in haystack:
                found.append((start, end))
                break
        else:
            end = start + 1
        start = end
    return found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
