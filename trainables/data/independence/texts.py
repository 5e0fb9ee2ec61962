"""Split samples into the parts that the checks compare, and bound how much of a data set they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.samples import Sample, context_group, split_prompt

# Ours: characters of a prompt (its last) and of a response (its first) that are read.
CLIP_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class SampleText:
    """The parts of a sample.

    Attributes:
        id: Its id.
        group: Name of its context, see `group_of`.
        source: Its key `source`; None without one.
        context: The text that the question is about; empty for a prompt of one part.
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
        """Context, question and response, each on lines of its own."""
        return "\n".join(part for part in (self.context, self.question, self.response) if part)

    @property
    def asked(self) -> str:
        return f"{self.question}\n{self.response}"


@dataclass(frozen=True)
class Limits:
    """The most that is read of a data set, so that a huge one costs no more.

    Attributes:
        samples: Samples.
        characters: Characters of prompts and responses.
    """

    samples: int
    characters: int


# Ours.
TRAIN_LIMITS = Limits(samples=20_000, characters=20_000_000)
AREA_LIMITS = Limits(samples=5_000, characters=5_000_000)


def sample_texts(samples: Sequence[Sample], limits: Limits, seed: int) -> list[SampleText]:
    """The texts of a data set in order; of one above the limits, those of a random part."""
    taken: list[int] = []
    characters = 0
    for i in np.random.default_rng(seed).permutation(len(samples)):
        characters += min(len(samples[i].prompt), CLIP_CHARACTERS) + min(len(samples[i].response), CLIP_CHARACTERS)
        if taken and (len(taken) == limits.samples or characters > limits.characters):
            break
        taken.append(int(i))
    return [_text(samples[i]) for i in sorted(taken)]


def group_of(sample: Sample) -> str:
    """Name of a sample's context: its key `group`, else `context_group` of its prompt."""
    group = sample.meta.get("group")
    return context_group(sample.prompt or sample.response) if group is None else str(group)


def _text(sample: Sample) -> SampleText:
    source = sample.meta.get("source")
    prompt, response = sample.prompt[-CLIP_CHARACTERS:], sample.response[:CLIP_CHARACTERS].strip()
    # A plain text asks nothing: all of it is context, whose stretches are compared.
    context, question = split_prompt(prompt) if sample.text is None else (response, "")
    return SampleText(
        id=sample.id,
        group=group_of(sample),
        source=source if isinstance(source, str) else None,
        context=context,
        question=question,
        response=response if sample.text is None else "",
    )
