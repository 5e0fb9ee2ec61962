"""Rank training samples by how far their loss exceeds that of similar samples at the same point of the epoch. PURE.

Each sample is trained on once, so that its training loss is a held-out loss of a model that has learned from earlier
samples. A sample with a wrong answer stays hard while similar ones become easy, in every trial.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Ours: samples of one kind, around a sample's position in the epoch, whose median is its expected loss. Enough for a
# steady median, few enough for a level that falls along the epoch.
NEIGHBORS = 31
# Ours: kinds with fewer samples are merged into `OTHERS`.
LEAST_OF_A_KIND = 10
OTHERS = "others"
# Median absolute deviation to standard deviation, for a normal distribution.
MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True)
class TrialLosses:
    """The training losses of one trial, in the order of its epoch.

    Attributes:
        ids: The samples.
        nll: (samples,) mean loss of each in its own step, in nats a token; NaN if it was not finite.
        tokens: (samples,) label tokens of each.
        base_nll: (samples,) loss of the base model; None if it was not computed.
    """

    ids: Sequence[str]
    nll: Array
    tokens: Array
    base_nll: Array | None = None


@dataclass(frozen=True)
class Suspicion:
    """Scores of one sample over all trials.

    Attributes:
        id: The sample.
        kind: Its kind of answer, or `OTHERS`; it was compared with samples of this kind.
        score: Its excess in units of the kind's spread, mean over trials; samples are ranked by it.
        excess_nats: Its loss minus the expected one, in nats a token, mean over trials.
        nll: Its training loss, mean over trials.
        base_nll: The base model's loss on it; None if it was not computed.
        trials: Trials that trained on it.
    """

    id: str
    kind: str
    score: float
    excess_nats: float
    nll: float
    base_nll: float | None
    trials: int


def suspicions(epochs: Sequence[TrialLosses], kinds: Mapping[str, str], *, less_base: bool = False) -> list[Suspicion]:
    """Ranks samples by how much harder they stayed than similar samples.

    In each trial a sample's loss is compared with the median of the samples of its kind around its position in the
    epoch. The score is the mean excess in units of their spread; see `excess_and_score`.

    Args:
        epochs: Trials that did not diverge.
        kinds: Each sample's kind of answer; see `trainables.data.answer_text.answer_kind`.
        less_base: Subtract the part that the base model's loss explains, where it is known.

    Returns:
        Every sample with a finite loss in a trial, the most suspect first.
    """
    # Not `less_base` by default: it removes difficulty, but a wrong answer is improbable to the base model too. With
    # planted wrong answers the precision was 0.46 with it and 0.51 without (`benchmarks.diagnostics`).
    found: dict[str, list[list[float]]] = defaultdict(list)  # score, excess and loss in each trial
    base: dict[str, float] = {}
    merged = merge_rare(kinds)
    for epoch in epochs:
        kept = np.flatnonzero(np.isfinite(epoch.nll))
        ids = [epoch.ids[index] for index in kept.tolist()]
        nll, base_nll = epoch.nll[kept], None if epoch.base_nll is None else epoch.base_nll[kept]
        own = [merged[name] for name in ids]
        excess, score = excess_and_score(nll, epoch.tokens[kept], base_nll if less_base else None, own)
        for name, *values in zip(ids, score.tolist(), excess.tolist(), nll.tolist(), strict=True):
            found[name].append(values)
        if base_nll is not None:
            base.update(zip(ids, base_nll.tolist(), strict=True))
    ranked = []
    for name, values in found.items():
        mean_score, mean_excess, mean_nll = np.mean(values, axis=0).tolist()
        ranked.append(
            Suspicion(name, merged[name], mean_score, mean_excess, mean_nll, base.get(name), trials=len(values))
        )
    return sorted(ranked, key=lambda sample: (-sample.score, sample.id))


def excess_and_score(nll: Array, tokens: Array, base_nll: Array | None, kinds: Sequence[str]) -> tuple[Array, Array]:
    """One trial's excess of each sample, in nats and in spreads.

    Args:
        nll: (samples,) in the order of the epoch, all finite.
        tokens: (samples,) label tokens.
        base_nll: (samples,) of the base model; losses that are not finite count as typical. None if not computed.
        kinds: Each sample's kind.

    Returns:
        (samples,) excess in nats a token, and (samples,) score.
    """
    names = np.asarray(kinds)
    rows_of = {kind: np.flatnonzero(names == kind) for kind in sorted(set(kinds))}
    excess = np.empty(len(nll))
    for rows in rows_of.values():
        excess[rows] = nll[rows] - local_median(nll[rows])
        if base_nll is not None:
            excess[rows] -= _explained(excess[rows], base_nll[rows])
    weighted = excess * np.sqrt(tokens)  # the mean over n tokens has a spread of 1 / sqrt(n)
    spreads = {kind: _spread(weighted[rows]) for kind, rows in rows_of.items()}
    pooled = math.sqrt(sum(len(rows_of[kind]) * spread**2 for kind, spread in spreads.items()) / len(nll))
    score = np.zeros(len(nll))
    for kind, rows in rows_of.items():
        # At least the pooled spread: a kind whose losses hardly differ would fill the list with trifles.
        spread = max(pooled, spreads[kind])
        if spread > 0.0:
            score[rows] = weighted[rows] / spread
    # Early in the epoch nothing is learned yet, and every loss is far from the later median.
    around = local_median(np.abs(score))
    usual = float(np.median(around))
    return excess, score / np.maximum(1.0, around / usual) if usual > 0.0 else score


def local_median(values: Array) -> Array:
    """(values,) median of the `NEIGHBORS` values around and including each; near an end, of the outermost ones."""
    if len(values) <= NEIGHBORS:
        return np.full(len(values), np.median(values))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, NEIGHBORS), axis=1)
    starts = np.clip(np.arange(len(values)) - NEIGHBORS // 2, 0, len(medians) - 1)
    return np.asarray(medians[starts], dtype=np.float64)


def merge_rare(kinds: Mapping[str, str]) -> dict[str, str]:
    """The kinds, with those of fewer than `LEAST_OF_A_KIND` samples merged into `OTHERS`."""
    counts = Counter(kinds.values())
    return {name: kind if counts[kind] >= LEAST_OF_A_KIND else OTHERS for name, kind in kinds.items()}


def _explained(excess: Array, base_nll: Array) -> Array:
    """The part of the excess that the base model's loss predicts by least squares, with a slope within 0 to 1."""
    known = np.isfinite(base_nll)
    if known.sum() < 3:
        return np.zeros(len(excess))
    # A wrong answer surprises the base model too. Clipped, its loss cannot explain the whole excess.
    most = 2.0 * _spread(base_nll[known])
    centered = np.clip(np.where(known, base_nll - np.median(base_nll[known]), 0.0), -most, most)
    power = float(centered @ centered)
    slope = float(np.clip(centered @ excess / power, 0.0, 1.0)) if power > 0.0 else 0.0
    return slope * centered


def _spread(values: Array) -> float:
    return float(MAD_TO_DEVIATION * np.median(np.abs(values - np.median(values))))
