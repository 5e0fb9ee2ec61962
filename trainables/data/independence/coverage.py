"""What a held-out area asks beyond the training set, and what its prompts do not support."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.independence.texts import Text
from trainables.data.independence.two_sample import CLIP_CHARACTERS, FEATURES, MOST_AREA, whole_groups

MOST_INDEX = 4000
"""Training samples that items are compared with (ours), whole contexts at a time."""

MOST_PROBES = 1000
"""Training samples whose own distances give the threshold (ours)."""

FAR_BEYOND = 0.99
"""Share of training samples that are nearer to a sample of another context than a far item is to any (ours)."""

MOST_IDS = 20


@dataclass(frozen=True)
class FarItems:
    """Items farther from every training sample than training samples are from those of other contexts.

    Attributes:
        count: Their number.
        share: Their share of the items looked at.
        ids: The farthest, at most 20.
        looked_at: Items looked at.
        threshold: Cosine similarity to the nearest training sample below which an item is far, 0 to 1.
    """

    count: int
    share: float
    ids: list[str]
    looked_at: int
    threshold: float


@dataclass(frozen=True)
class Unsupported:
    """Responses none of whose words or figures occur in their prompt: knowledge or arithmetic, not a pattern.

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


def far_items(train: Sequence[Text], areas: Mapping[str, Sequence[Text]], seed: int) -> dict[str, FarItems | None]:
    """For each area its items far from every training sample, by the cosine of tf-idf vectors of character n-grams.

    The threshold is the training set's own: the first percentile of the similarity of a training sample to the
    nearest one of another context. About 1 % of an area that is drawn as the training set was lies beyond it.

    Returns:
        None for all areas where the training set has no two contexts.
    """
    rng = np.random.default_rng(seed)
    index = whole_groups(train, MOST_INDEX, rng)
    groups = np.unique([text.group for text in index], return_inverse=True)[1]
    if len(index) == 0 or groups.max() == 0:
        return dict.fromkeys(areas)
    vectorize = _Vectors(index)
    probes = rng.permutation(len(index))[:MOST_PROBES]
    own = _similarities(vectorize.index[probes], vectorize.index)
    own[groups[probes][:, None] == groups] = -1.0
    threshold = float(np.quantile(own.max(axis=1), 1 - FAR_BEYOND))
    found: dict[str, FarItems | None] = {}
    for name, area in areas.items():
        items = whole_groups(area, MOST_AREA, rng)
        nearest = _similarities(vectorize(items), vectorize.index).max(axis=1)
        far = [int(i) for i in np.argsort(nearest, kind="stable") if nearest[i] < threshold]
        ids = [items[i].id for i in far[:MOST_IDS]]
        found[name] = FarItems(len(far), len(far) / len(items), ids, len(items), threshold)
    return found


class _Vectors:
    """tf-idf vectors of texts; the frequencies are those of the index."""

    def __init__(self, index: Sequence[Text]) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

        self._counts = HashingVectorizer(
            analyzer="char", ngram_range=(3, 4), n_features=FEATURES, alternate_sign=False, lowercase=False, norm=None
        )
        self._weights = TfidfTransformer(sublinear_tf=True)
        self.index = self._weights.fit_transform(self._count(index))

    def __call__(self, texts: Sequence[Text]) -> Any:
        return self._weights.transform(self._count(texts))

    def _count(self, texts: Sequence[Text]) -> Any:
        return self._counts.transform(text.whole[-CLIP_CHARACTERS:] for text in texts)


def _similarities(items: Any, index: Any) -> NDArray[np.float64]:
    """(items, index) cosines of rows of two sparse matrices of unit rows."""
    return np.asarray((items @ index.T).toarray())


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


def unsupported(area: Sequence[Text], train_share: float) -> Unsupported:
    """The area's unsupported responses (see `is_unsupported`) beside the training set's share."""
    found = [text.id for text in area if is_unsupported(text)]
    return Unsupported(len(found), len(found) / len(area), found[:MOST_IDS], train_share)


def unsupported_share(texts: Sequence[Text]) -> float:
    """Share of unsupported responses, 0 to 1."""
    return sum(map(is_unsupported, texts)) / len(texts)


def is_unsupported(text: Text) -> bool:
    """True where a response has content words or figures and none of them occurs in its prompt.

    Case, a plural "s", thousands commas, signs and trailing zeros do not count; words such as "the", "yes" or
    "million" are no content, so that "Yes" is never unsupported.
    """
    said = _content(text.response)
    return bool(said) and said.isdisjoint(_content(f"{text.context}\n{text.question}"))


def _content(text: str) -> set[str]:
    figures = {_figure(found) for found in re.findall(r"\d[\d,]*(?:\.\d+)?|\.\d+", text)}
    words = {word for word in re.findall(r"[^\W\d_]{2,}", text.lower()) if word not in _STOP_WORDS}
    return figures | {word.removesuffix("s") for word in words}


def _figure(text: str) -> str:
    whole, point, decimals = text.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{point if decimals else ''}{decimals}"
