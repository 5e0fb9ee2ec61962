"""Question templates: questions with their figures, names and phrases of the context masked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.data.independence.texts import SampleText

# Ours: a longer question is no template. It repeats only where it is copied, which the audit finds. The limit in
# characters is for texts without spaces.
MOST_QUESTION_WORDS = 60
MOST_QUESTION_CHARACTERS = 1000
# Ours: words that a template needs besides its masks; all annotators write short ones such as "what was the @ in #". On
# financial reports the share of items with a training template is then 0.26 for the training set's own process and 0.06
# for another annotator's; with all templates 0.38 and 0.19.
FEWEST_LITERAL_WORDS = 5

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
        within_train: The same share for training samples and other contexts of the training set, as one process has.
        generic: Number of other items, whose template occurs in training but is short.
        examples: The most common: {"template", "items", "train"}, with the number of questions on each side.
    """

    share: float
    items: int
    within_train: float
    generic: int
    examples: list[dict[str, str | int]]


class TrainTemplates:
    """The question templates of a training set."""

    def __init__(self, texts: Sequence[SampleText]) -> None:
        templates = [question_template(text.question, text.context) for text in texts]
        self._counts = Counter(found for found in templates if found)
        groups: dict[str, set[str]] = {}
        for text, found in zip(texts, templates, strict=True):
            if found:
                groups.setdefault(found, set()).add(text.group)
        repeated = sum(found is not None and is_specific(found) and len(groups[found]) > 1 for found in templates)
        self.within = repeated / len(texts)

    def overlap(self, area: Sequence[SampleText]) -> TemplateOverlap:
        shared = Counter(found for found in _templates(area) if found in self._counts)
        specific = Counter({found: count for found, count in shared.items() if is_specific(found)})
        return TemplateOverlap(
            share=specific.total() / len(area),
            items=specific.total(),
            within_train=self.within,
            generic=shared.total() - specific.total(),
            examples=[
                {"template": found, "items": count, "train": self._counts[found]}
                for found, count in specific.most_common(EXAMPLES)
            ],
        )


def is_specific(found: str) -> bool:
    """Whether a template is long enough to be typical of one process."""
    return sum(word not in MASKS for word in found.split()) >= FEWEST_LITERAL_WORDS


def question_template(question: str, context: str) -> str | None:
    """A question in lower case, without punctuation, with masks; None for an empty or very long one.

    "#" replaces words with a digit; "@" replaces capitalized words after the first, and phrases of two or more words
    that the context has too. Equal masks in a row become one. "What was Acme's net income in 2019?" on a table with a
    row "Net income" becomes "what was @ in #".
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


def _templates(texts: Iterable[SampleText]) -> list[str]:
    return [found for text in texts if (found := question_template(text.question, text.context))]


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
