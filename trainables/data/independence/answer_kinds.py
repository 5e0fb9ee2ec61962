"""Compare the kinds of answers of a held-out area and of the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainables.data.answer_text import answer_kind

# Ours: a kind is present on a side from this share of its responses, and absent below the other one, so that a single
# odd response does not hide a gap.
PRESENT = 0.05
ABSENT = 0.01


@dataclass(frozen=True)
class AnswerKinds:
    """Kinds of answers on both sides.

    Attributes:
        train: Share of each kind among training responses.
        area: Share of each kind among the area's responses.
        only_in_area: Kinds that the area has and training (almost) lacks.
        only_in_train: Kinds that training has and the area (almost) lacks.
    """

    train: dict[str, float]
    area: dict[str, float]
    only_in_area: list[str]
    only_in_train: list[str]


def compare_kinds(train: dict[str, float], area: dict[str, float]) -> AnswerKinds:
    return AnswerKinds(train, area, one_sided(area, train), one_sided(train, area))


def kind_shares(responses: Iterable[str]) -> dict[str, float]:
    """The share of each kind that occurs, most common first."""
    counts = Counter(map(answer_kind, responses))
    return {kind: count / counts.total() for kind, count in counts.most_common()}


def one_sided(here: Mapping[str, float], there: Mapping[str, float]) -> list[str]:
    """The kinds that make up at least 5 % of one side and below 1 % of the other, most common first."""
    return [kind for kind, share in here.items() if share >= PRESENT and there.get(kind, 0.0) < ABSENT]
