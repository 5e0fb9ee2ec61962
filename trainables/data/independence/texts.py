"""The parts of a sample that the checks compare, and how much of a data set they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.samples import PARAGRAPH_BREAK, Sample, context_group

CLIP_CHARACTERS = 200_000
"""Characters of a prompt (its last) and of a response (its first) that are looked at (ours)."""


@dataclass(frozen=True, slots=True)
class Text:
    """A sample, taken apart.

    Attributes:
        id: Its id.
        group: Its context's name, see `group_of`.
        source: Its key `source`; None without one.
        context: What the question is about; empty for a prompt of one part.
        question: The last part of the prompt.
        response: The answer.
    """

    id: str
    group: str
    source: str | None
    context: str
    question: str
    response: str

    @property
    def whole(self) -> str:
        """Context, question and response, a line break between them."""
        return "\n".join(part for part in (self.context, self.question, self.response) if part)

    @property
    def asked(self) -> str:
        """Question and response without the context."""
        return f"{self.question}\n{self.response}"


@dataclass(frozen=True)
class Limits:
    """How much of a file is looked at, so that a huge one costs no more.

    Attributes:
        samples: Samples.
        characters: Characters of prompts and responses.
    """

    samples: int
    characters: int


TRAIN_LIMITS = Limits(samples=20_000, characters=20_000_000)
"""Of a training set (ours)."""

AREA_LIMITS = Limits(samples=5_000, characters=5_000_000)
"""Of a held-out area (ours)."""


def read_texts(samples: Sequence[Sample], limits: Limits, seed: int) -> list[Text]:
    """The texts of a data set in order, or of a random part of it where it is above the limits."""
    taken: list[int] = []
    characters = 0
    for i in np.random.default_rng(seed).permutation(len(samples)):
        characters += min(len(samples[i].prompt), CLIP_CHARACTERS) + min(len(samples[i].response), CLIP_CHARACTERS)
        if taken and (len(taken) == limits.samples or characters > limits.characters):
            break
        taken.append(int(i))
    return [_text(samples[i]) for i in sorted(taken)]


def group_of(sample: Sample) -> str:
    """Name of the context of a sample: its key `group`, else `context_group` of its prompt."""
    group = sample.meta.get("group")
    return context_group(sample.prompt) if group is None else str(group)


def split_prompt(prompt: str) -> tuple[str, str]:
    """(context, question) of a prompt, parted where `context_group` parts them.

    The question is what follows the last "Question:", else the last paragraph, else everything (no context).
    """
    before, mark, after = prompt.rpartition("Question:")
    if mark:
        return before.strip(), after.strip()
    text = prompt.strip()
    breaks = list(PARAGRAPH_BREAK.finditer(text))
    return (text[: breaks[-1].start()], text[breaks[-1].end() :]) if breaks else ("", text)


def _text(sample: Sample) -> Text:
    source = sample.meta.get("source")
    context, question = split_prompt(sample.prompt[-CLIP_CHARACTERS:])
    return Text(
        id=sample.id,
        group=group_of(sample),
        source=source if isinstance(source, str) else None,
        context=context,
        question=question,
        response=sample.response[:CLIP_CHARACTERS].strip(),
    )
