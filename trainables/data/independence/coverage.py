"""Items of a held-out area far from all training samples, and responses that their prompt does not support."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from trainables.data.independence.texts import SampleText
from trainables.data.independence.two_sample import COMPARED_CHARACTERS, FEATURES, MOST_AREA, whole_groups

# Ours: training samples that items are compared with, in whole contexts.
MOST_INDEX = 4000
# Ours: training samples whose own distances give the threshold.
MOST_PROBES = 1000
# Ours: share of training samples that are nearer to a sample of another context than a far item is to any sample.
FAR_BEYOND = 0.99
MOST_IDS = 20


@dataclass(frozen=True)
class FarItems:
    """Items farther from every training sample than training samples are from those of other contexts.

    Attributes:
        count: Their number.
        share: Their share of the compared items.
        ids: The farthest, at most 20.
        looked_at: Number of compared items.
        threshold: Cosine similarity to the nearest training sample below which an item is far, 0 to 1.
    """

    count: int
    share: float
    ids: list[str]
    looked_at: int
    threshold: float


@dataclass(frozen=True)
class Unsupported:
    """Responses without a word or figure of their prompt: they need knowledge or arithmetic.

    Attributes:
        count: Items of the area.
        share: Their share of the area.
        ids: The first, at most 20.
        train_share: The share among training samples.
    """

    count: int
    share: float
    ids: list[str]
    train_share: float


def far_items(
    train: Sequence[SampleText], areas: Mapping[str, Sequence[SampleText]], seed: int
) -> dict[str, FarItems | None]:
    """Finds each area's items far from every training sample, by the cosine of tf-idf vectors of character n-grams.

    The threshold is the first percentile of the similarity of a training sample to the nearest one of another context.
    About 1 % of an area that is drawn like the training set is beyond it.

    Returns:
        The far items of each area; None for all areas if the training set has a single context.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer  # here: slow to import
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(seed)
    index = whole_groups(train, MOST_INDEX, rng)
    groups = np.unique([text.group for text in index], return_inverse=True)[1]
    if len(index) == 0 or groups.max() == 0:
        return dict.fromkeys(areas)
    counts = HashingVectorizer(
        analyzer="char", ngram_range=(3, 4), n_features=FEATURES, alternate_sign=False, lowercase=False, norm=None
    )
    vectorizer = make_pipeline(counts, TfidfTransformer(sublinear_tf=True))
    vectors = vectorizer.fit_transform(_compared(index))
    probes = rng.permutation(len(index))[:MOST_PROBES]
    own = (vectors[probes] @ vectors.T).toarray()  # cosines: the rows are unit vectors
    own[groups[probes][:, None] == groups] = -1.0  # samples of one context are near each other by their context
    threshold = float(np.quantile(own.max(axis=1), 1 - FAR_BEYOND))
    found: dict[str, FarItems | None] = {}
    for name, area in areas.items():
        items = whole_groups(area, MOST_AREA, rng)
        nearest = (vectorizer.transform(_compared(items)) @ vectors.T).toarray().max(axis=1)
        far = [int(i) for i in np.argsort(nearest, kind="stable") if nearest[i] < threshold]
        ids = [items[i].id for i in far[:MOST_IDS]]
        found[name] = FarItems(len(far), len(far) / len(items), ids, len(items), threshold)
    return found


def _compared(texts: Sequence[SampleText]) -> list[str]:
    return [text.whole[-COMPARED_CHARACTERS:] for text in texts]


# Words without content: they support no answer, and an answer of nothing else needs no support.
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be been but by did do does for from had has have in into is it its not of on or our than
        that the their then there these they this those to was we were what when where which who will with would
        yes no true false thousand thousands million millions billion billions trillion percent dollars euros usd eur
        """,
    )
)


def unsupported(area: Sequence[SampleText], train_share: float) -> Unsupported:
    """Finds the area's unsupported responses (see `is_unsupported`)."""
    found = [text.id for text in area if is_unsupported(text)]
    return Unsupported(len(found), len(found) / len(area), found[:MOST_IDS], train_share)


def unsupported_share(texts: Sequence[SampleText]) -> float:
    return sum(map(is_unsupported, texts)) / len(texts)


def is_unsupported(text: SampleText) -> bool:
    """True if a response has content words or figures and none of them occurs in its prompt.

    Ignored are case, a plural "s", thousands commas, signs and trailing zeros. Words such as "the", "yes" or "million"
    are no content, so that "Yes" is never unsupported.
    """
    content = content_words(text.response)
    return bool(content) and content.isdisjoint(content_words(f"{text.context}\n{text.question}"))


def content_words(text: str) -> set[str | Decimal]:
    """The words of a text that carry content, without a plural "s", and its figures as numbers."""
    figures = {Decimal(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?|\.\d+", text)}
    words = {word for word in re.findall(r"[^\W\d_]{2,}", text.lower()) if word not in _STOP_WORDS}
    return figures | {word.removesuffix("s") for word in words}
