"""Classifier two-sample test of a held-out area against the training set (Lopez-Paz & Oquab, ICLR 2017).

A linear model of character n-grams learns to separate training samples from an area's items; the AUC on unseen samples
is the statistic. The test is one-sided: an AUC well below 1 says that one process made both, while one near 1 says
nothing, since another topic is enough for it.

Compared are question and response without the context. Where most items ask one stock question ("Which intent fits the
message?"), the context holds the task, and the whole prompt is compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.independence.texts import SampleText

# Why no context. Measured on 2,828 questions about financial reports (AUC without and with the context): other tables
# by the same annotators 0.65 and 0.79; another annotator's questions on the same kind of report 0.99 and 1.00; eight
# topics of the training set held out one by one 0.71 to 0.89 and 0.88 to 0.97. The context hides one process behind
# another topic: with it no topic is flagged, without it seven of eight.
# LinearSVC with C=1 on 2- to 4-grams; with n from 1 to 5, C from 0.1 to 10 or logistic regression those of the same
# annotators are 0.60 to 0.67 and the others 0.96 to 0.99.

# Ours: an AUC whose upper bound is below this says that the training set's process made the area.
SAME_PROCESS_BELOW = 0.9
# Ours: contexts that each side needs; percentile intervals of fewer clusters are too narrow.
FEWEST_GROUPS = 20
# Ours: compared items and training samples, in whole contexts; at most `TRAIN_PER_ITEM` samples for each item.
MOST_AREA = 500
MOST_TRAIN = 1500
TRAIN_PER_ITEM = 3
FOLDS = 5
RESAMPLES = 1000
FEATURES = 2**18
# Ours: compared characters of a text, its last, which hold question and response.
COMPARED_CHARACTERS = 4000

Verdict = Literal["same_process", "no_evidence", "too_small"]


@dataclass(frozen=True)
class TwoSample:
    """Result of the test.

    Attributes:
        auc: Probability that an unseen item of the area scores above an unseen training sample; 0.5 if nothing
            separates them. None if a side is too small.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        verdict: "same_process" if `high` is below 0.9, "no_evidence" (no proof of the contrary), or "too_small" if a
            side has fewer than 20 contexts.
        compared: The compared text: "question and response" or "prompt and response".
        train_used: Training samples compared.
        items_used: Items of the area compared.
        train_groups: Contexts of those training samples.
        groups: Contexts of those items.
    """

    auc: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    compared: str
    train_used: int
    items_used: int
    train_groups: int
    groups: int


def compare(train: Sequence[SampleText], area: Sequence[SampleText], seed: int = 0) -> TwoSample:
    """Tests an area against the training set; the same seed and texts give the same result."""
    rng = np.random.default_rng(seed)
    items = whole_groups(area, MOST_AREA, rng)
    samples = whole_groups(train, min(MOST_TRAIN, TRAIN_PER_ITEM * len(items)), rng)
    stock = asks_stock_questions(samples) or asks_stock_questions(items)
    sizes = len({text.group for text in samples}), len({text.group for text in items})
    interval = None
    if min(sizes) >= FEWEST_GROUPS:
        train_side, area_side = ([text.whole if stock else text.asked for text in side] for side in (samples, items))
        train_groups, area_groups = ([text.group for text in side] for side in (samples, items))
        interval = grouped_auc(train_side, area_side, train_groups, area_groups, seed)
    auc, low, high = interval or (None, None, None)
    verdict: Verdict = "too_small" if high is None else "same_process" if high < SAME_PROCESS_BELOW else "no_evidence"
    compared = "prompt and response" if stock else "question and response"
    return TwoSample(auc, low, high, verdict, compared, len(samples), len(items), *sizes)


def whole_groups(texts: Sequence[SampleText], most: int, rng: np.random.Generator) -> list[SampleText]:
    """Draws groups of texts up to `most` texts; only the last group may be cut."""
    members: dict[str, list[SampleText]] = {}
    for text in texts:
        members.setdefault(text.group, []).append(text)
    names = sorted(members)
    taken: list[SampleText] = []
    for i in rng.permutation(len(names)):
        if len(taken) >= most:
            break
        taken.extend(members[names[i]])
    return taken[:most]


def asks_stock_questions(texts: Sequence[SampleText]) -> bool:
    """Whether fewer than half of the questions differ, as with one instruction for all samples."""
    return 2 * len({text.question for text in texts}) < len(texts)


def grouped_auc(
    train: Sequence[str], area: Sequence[str], train_groups: Sequence[str], area_groups: Sequence[str], seed: int = 0
) -> tuple[float, float, float] | None:
    """AUC of unseen texts, cross-validated in groups, with its 95 % interval.

    The interval is the percentile interval of a bootstrap of each side's groups. It does not cover the variation of the
    trained classifiers.

    Args:
        train: Texts of the training set.
        area: Texts of the area.
        train_groups: Group of each training text. A group is in one fold, also if it is on both sides.
        area_groups: Group of each text of the area.
        seed: Seed of folds, classifier and bootstrap.

    Returns:
        (AUC, low, high); None if no fold has both sides to learn from and to compare, as with one huge group.
    """
    labels = np.repeat([0, 1], [len(train), len(area)])
    groups = np.unique([*train_groups, *area_groups], return_inverse=True)[1]
    scores, folds = _unseen_scores([*train, *area], labels, groups, seed)
    left, right = ((scores[labels == side], folds[labels == side], groups[labels == side]) for side in (0, 1))
    aucs = _resampled_auc(left, right, np.random.default_rng(seed))
    if not np.isfinite(aucs[0]):
        return None
    low, high = np.nanquantile(aucs[1:], [0.025, 0.975])
    return float(aucs[0]), float(low), float(high)


def _unseen_scores(
    texts: list[str], labels: NDArray[np.intp], groups: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """(texts,) classifier scores, and the fold of each text; -1 where one side was missing in training."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.svm import LinearSVC

    vectorizer = HashingVectorizer(
        analyzer="char", ngram_range=(2, 4), n_features=FEATURES, alternate_sign=False, lowercase=False
    )
    vectors = vectorizer.transform(text[-COMPARED_CHARACTERS:] for text in texts)
    scores, folds = np.zeros(len(texts)), np.full(len(texts), -1, dtype=np.intp)
    # A context in two folds would be recognized by its words: two halves of one training set (500 samples each, with
    # their contexts) had an AUC of 0.91, in groups 0.54.
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # uneven folds, and a classifier just short of its optimum, still rank texts
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (seen, unseen) in enumerate(splitter.split(vectors, labels, groups)):
            if len(set(labels[seen])) == 2:
                classifier = LinearSVC(C=1.0, random_state=seed).fit(vectors[seen], labels[seen])
                scores[unseen], folds[unseen] = classifier.decision_function(vectors[unseen]), fold
    return scores, folds


Side = tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]  # scores, folds and groups of a side's texts


def _resampled_auc(train: Side, area: Side, rng: np.random.Generator) -> NDArray[np.float64]:
    """(1 + RESAMPLES,) AUC of the texts and of each resample: the share of pairs that the area wins; ties are half."""
    weights = [_group_weights(side[2], rng) for side in (train, area)]
    wins, pairs = np.zeros(1 + RESAMPLES), np.zeros(1 + RESAMPLES)
    # Only pairs within a fold: scores of two classifiers are not comparable.
    for fold in set(train[1]) & set(area[1]) - {-1}:
        members = [side[1] == fold for side in (train, area)]
        low, high = train[0][members[0]], area[0][members[1]]
        won = (high > low[:, None]) + 0.5 * (high == low[:, None])  # (train, area)
        left, right = (weight[:, member] for weight, member in zip(weights, members, strict=True))
        wins += np.sum((left @ won) * right, axis=1)
        pairs += left.sum(axis=1) * right.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return wins / pairs


def _group_weights(groups: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float64]:
    """(1 + RESAMPLES, texts) weight of each text: one, then the number of draws of its group in each resample."""
    names, group_of = np.unique(groups, return_inverse=True)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return np.vstack([np.ones((1, len(names))), draws])[:, group_of]
