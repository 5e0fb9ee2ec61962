"""PURE. How far a training sample's running loss lies above what its like had at the same place in the epoch.

A sample is seen once, so its loss in the step that trains on it is a held-out loss of a model that has learnt from the
samples before. One whose answer is wrong stays hard while its like get easy, in every trial that meets it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEIGHBOURS = 31
"""Samples of the same kind, around a sample's place in the epoch, whose median is what was to be expected of it. Ours:
enough for a steady median, few enough for a level that falls along the epoch."""

LEAST_OF_A_KIND = 10
"""Kinds with fewer samples are taken together as one. Ours."""

OTHERS = "others"

NORMAL = 1.4826
"""A median absolute deviation times this estimates the sd of a normal distribution."""


@dataclass(frozen=True)
class Epoch:
    """The running losses of one trial, in the order in which it met the samples.

    Attributes:
        ids: The samples.
        nll: (samples,) mean loss of each when it was trained on, in nats a token; NaN where it was not finite.
        tokens: (samples,) label tokens of each.
        base_nll: (samples,) the base model's; None where it was not computed.
    """

    ids: Sequence[str]
    nll: Array
    tokens: Array
    base_nll: Array | None = None


@dataclass(frozen=True)
class Suspicion:
    """What all trials together say of one sample.

    Attributes:
        id: The sample.
        kind: What it was compared with.
        score: Its excess in spreads of its like, averaged over trials; samples are ranked by it.
        excess_nats: Its running loss less what was to be expected, in nats a token, averaged over trials.
        nll: Its running loss, averaged over trials.
        base_nll: The base model's loss on it; None where it was not computed.
        trials: Trials that met it.
    """

    id: str
    kind: str
    score: float
    excess_nats: float
    nll: float
    base_nll: float | None
    trials: int


def suspicions(epochs: Sequence[Epoch], kinds: Mapping[str, str], *, less_base: bool = False) -> list[Suspicion]:
    """Ranks samples by how much harder they stayed than their like.

    In each trial a sample's loss is compared with the median of the samples of its kind around its place in the epoch.
    It counts by the square root of its tokens, for the mean over n tokens has a spread of 1 / sqrt(n), and is divided
    by two spreads: that of its kind, or of all kinds pooled where that is larger (a kind whose losses hardly differ
    would otherwise fill the list with trifles), and that of the samples around its place, where it is larger than usual
    (as long as nothing is learnt, every loss is far from the later median).

    Args:
        epochs: Trials that did not diverge.
        kinds: Each sample's kind of answer; see `answer_kind`.
        less_base: Take away the part that the base model's loss explains, where it is known (within the kind, a slope
            of 0 to 1). It takes out difficulty, but a wrong answer is improbable to the base model too: with planted
            wrong answers the precision was 0.46 with it and 0.51 without (`benchmarks.diagnostics`). Hence not by
            default.

    Returns:
        Every sample that a trial met with a finite loss, the most suspect first.
    """
    scores: dict[str, list[float]] = {}
    excesses: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    base: dict[str, float] = {}
    merged = merge_rare(kinds)
    for epoch in epochs:
        kept = np.flatnonzero(np.isfinite(epoch.nll))
        ids = [epoch.ids[place] for place in kept.tolist()]
        base_nll = None if epoch.base_nll is None else epoch.base_nll[kept]
        own = [merged[name] for name in ids]
        excess, score = excess_and_score(epoch.nll[kept], epoch.tokens[kept], base_nll if less_base else None, own)
        for row, name in enumerate(ids):
            scores.setdefault(name, []).append(float(score[row]))
            excesses.setdefault(name, []).append(float(excess[row]))
            losses.setdefault(name, []).append(float(epoch.nll[kept[row]]))
            if base_nll is not None:
                base[name] = float(base_nll[row])
    found = [
        Suspicion(
            id=name,
            kind=merged[name],
            score=float(np.mean(scores[name])),
            excess_nats=float(np.mean(excesses[name])),
            nll=float(np.mean(losses[name])),
            base_nll=base.get(name),
            trials=len(scores[name]),
        )
        for name in scores
    ]
    return sorted(found, key=lambda sample: (-sample.score, sample.id))


def excess_and_score(nll: Array, tokens: Array, base_nll: Array | None, kinds: Sequence[str]) -> tuple[Array, Array]:
    """One trial's excess of each sample, in nats and in spreads.

    Args:
        nll: (samples,) in the order in which they were met, all finite.
        tokens: (samples,) label tokens.
        base_nll: (samples,) of the base model; losses that are not finite count as typical. None if not computed.
        kinds: Each sample's kind.
    """
    names = np.asarray(kinds)
    rows_of = {kind: np.flatnonzero(names == kind) for kind in sorted(set(kinds))}
    excess = np.empty(len(nll))
    for rows in rows_of.values():
        excess[rows] = nll[rows] - local_median(nll[rows])
        if base_nll is not None:
            excess[rows] -= _explained(excess[rows], base_nll[rows])
    weighted = excess * np.sqrt(tokens)
    spreads = {kind: _spread(weighted[rows]) for kind, rows in rows_of.items()}
    pooled = math.sqrt(sum(len(rows_of[kind]) * spread**2 for kind, spread in spreads.items()) / len(nll))
    score = np.zeros(len(nll))
    for kind, rows in rows_of.items():
        spread = max(pooled, spreads[kind])
        if spread > 0.0:
            score[rows] = weighted[rows] / spread
    around = local_median(np.abs(score))
    usual = float(np.median(around))
    return excess, score / np.maximum(1.0, around / usual) if usual > 0.0 else score


def local_median(values: Array) -> Array:
    """Median of the `NEIGHBOURS` values around each, itself among them; near the ends of the first or last so many."""
    if len(values) <= NEIGHBOURS:
        return np.full(len(values), np.median(values))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, NEIGHBOURS), axis=1)
    starts = np.clip(np.arange(len(values)) - NEIGHBOURS // 2, 0, len(medians) - 1)
    return np.asarray(medians[starts], dtype=np.float64)


def answer_kind(response: str) -> str:
    """The form of an answer, as a rough guess at its kind: what is compared must be comparable.

    One of "empty", "yes or no", "number" (digits with at most two words), "list" (parts joined by semicolons), "words"
    (up to four) and "text".
    """
    answer = response.strip().lower()
    words = answer.split()
    if not words:
        return "empty"
    if answer.rstrip(".") in ("yes", "no", "true", "false"):
        return "yes or no"
    if ";" in answer:
        return "list"
    if re.search(r"\d", answer) and len(words) <= 3:
        return "number"
    return "words" if len(words) <= 4 else "text"


def merge_rare(kinds: Mapping[str, str]) -> dict[str, str]:
    """The kinds, with those of fewer than `LEAST_OF_A_KIND` samples as one, `OTHERS`."""
    counts = Counter(kinds.values())
    return {name: kind if counts[kind] >= LEAST_OF_A_KIND else OTHERS for name, kind in kinds.items()}


def _explained(excess: Array, base_nll: Array) -> Array:
    """The part of the excess that goes with the base model's loss: least squares, the slope held in 0 to 1.

    The base model's loss counts to within two spreads of its median: a wrong answer surprises the base model too, and
    must not be explained away by that.
    """
    known = np.isfinite(base_nll)
    if known.sum() < 3:
        return np.zeros(len(excess))
    most = 2.0 * _spread(base_nll[known])
    centred = np.clip(np.where(known, base_nll - np.median(base_nll[known]), 0.0), -most, most)
    power = float(centred @ centred)
    slope = float(np.clip(centred @ excess / power, 0.0, 1.0)) if power > 0.0 else 0.0
    return slope * centred


def _spread(values: Array) -> float:
    return float(NORMAL * np.median(np.abs(values - np.median(values))))
