"""Examine whether held-out areas are independent of the training set.

An area measures generalization only if another process made it. The checks: can a classifier separate it from training,
what do both share, what does it ask beyond training, and how small a difference can it show. A check can speak against
an area; none proves that it is independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.data.independence.answer_kinds import AnswerKinds, compare_kinds, kind_shares
from trainables.data.independence.coverage import FarItems, Unsupported, far_items, unsupported, unsupported_share
from trainables.data.independence.power import Power, assumed_power
from trainables.data.independence.question_templates import TemplateOverlap, TrainTemplates
from trainables.data.independence.shared_sources import SharedRuns, SharedSource, shared_runs, shared_sources
from trainables.data.independence.support import Support, answer_support
from trainables.data.independence.texts import AREA_LIMITS, TRAIN_LIMITS, group_of, sample_texts
from trainables.data.independence.two_sample import TwoSample, compare
from trainables.data.samples import Sample


@dataclass(frozen=True)
class AreaReport:
    """Results of all checks of one area; `dataclasses.asdict` gives the JSON of `plan.json`.

    Attributes:
        items: Items of the area.
        items_looked_at: Items that were checked, a random part of a very large area.
        train_samples: Training samples.
        train_looked_at: Training samples that were checked, a random part of a very large set.
        two_sample: Whether a classifier separates it from the training set.
        shared_sources: Values of `source` on both sides.
        template_overlap: Question templates on both sides.
        shared_runs: Stretches of context on both sides.
        answer_kinds: Kinds of answers on each side.
        far_items: Items unlike all training samples; None if the training set has a single context.
        unsupported: Responses that nothing in their prompt supports.
        power: The smallest difference that the area can show.
        support: How far its answers follow from their prompts; None in reports of earlier versions.
        train_support: The same of the training set.
    """

    items: int
    items_looked_at: int
    train_samples: int
    train_looked_at: int
    two_sample: TwoSample
    shared_sources: list[SharedSource]
    template_overlap: TemplateOverlap
    shared_runs: SharedRuns
    answer_kinds: AnswerKinds
    far_items: FarItems | None
    unsupported: Unsupported
    power: Power
    support: Support | None = None
    train_support: Support | None = None


def examine(train: Sequence[Sample], areas: Mapping[str, Sequence[Sample]], *, seed: int = 0) -> dict[str, AreaReport]:
    """Examines every held-out area against the training set.

    The cost is bounded by `TRAIN_LIMITS` and `AREA_LIMITS`: of larger sets a random part is checked.

    Args:
        train: Training samples; at least one.
        areas: Samples of each area; at least one each.
        seed: Seed of all draws; the same seed and samples give the same result.

    Raises:
        ValueError: The training set or an area is empty.
    """
    empty = [name for name, samples in {"the training set": train, **areas}.items() if not samples]
    if empty:
        raise ValueError(f"must hold samples: {', '.join(empty)}")
    trained = sample_texts(train, TRAIN_LIMITS, seed)
    texts = {name: sample_texts(samples, AREA_LIMITS, seed) for name, samples in areas.items()}
    templates = TrainTemplates(trained)
    runs = shared_runs(trained, texts)
    far = far_items(trained, texts, seed)
    trained_kinds = kind_shares(text.response for text in trained)
    trained_unsupported = unsupported_share(trained)
    trained_support = answer_support(trained)
    return {
        name: AreaReport(
            items=len(areas[name]),
            items_looked_at=len(area),
            train_samples=len(train),
            train_looked_at=len(trained),
            two_sample=compare(trained, area, seed),
            shared_sources=shared_sources(trained, area),
            template_overlap=templates.overlap(area),
            shared_runs=runs[name],
            answer_kinds=compare_kinds(trained_kinds, kind_shares(text.response for text in area)),
            far_items=far[name],
            unsupported=unsupported(area, trained_unsupported),
            power=assumed_power(len({group_of(sample) for sample in areas[name]})),
            support=answer_support(area),
            train_support=trained_support,
        )
        for name, area in texts.items()
    }
