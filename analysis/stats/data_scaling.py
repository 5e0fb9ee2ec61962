"""PURE. What more data would bring, from complete schedules on nested parts of the training set.

A single curve can't tell: its late fall is the LR decay's. Trials on a quarter, on a half that holds it, and on all
samples can, each with its whole schedule and the same settings. They cost three quarters of a trial more, so they
run only on request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainables.diagnostics.generalization import Items, objective_rise
from trainables.diagnostics.running_stats import Difference

CONFIDENCE = 0.975  # of each of the two bounds of an interval
WORTH = 0.01  # ours: a doubling that brings less than this share of the loss is not worth the data

Verdict = Literal["not measured", "more data helps", "more data hardly helps", "undecided"]


@dataclass(frozen=True)
class MoreData:
    """The gains of doubling the data, in nats a token; (gain, low, high), None where not measured."""

    verdict: Verdict
    from_quarter: tuple[float, float, float] | None = None
    from_half: tuple[float, float, float] | None = None
    next_doubling: tuple[float, float] | None = None  # (expected, most); None where the gains so far don't say

    def sentence(self) -> str:
        """The verdict for a reader."""
        if self.from_half is None:
            return "What more data would bring: not measured."
        gain, low, high = self.from_half
        said = f"What more data would bring: the second half brought {gain:.3f} nats/token [{low:.3f}, {high:.3f}]"
        if self.next_doubling is not None:
            said += f"; twice the data may bring about {self.next_doubling[0]:.3f}, at most {self.next_doubling[1]:.3f}"
        return f"{said}: {self.verdict}."


def more_data(
    quarter: Items | None,
    half: Items | None,
    full: Items | None,
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    seed_sd: float | None,
) -> MoreData:
    """Compares the last checkpoints of the three trials, item by item.

    Args:
        quarter: Each area's items' mean losses after a complete schedule on a quarter of the samples; None if not run.
        half: The same on a half.
        full: The same on all.
        groups: Each item's cluster, by area and in the items' order.
        weights: Weight of each area that selects.
        seed_sd: Standard deviation of the objective between seeds, in nats a token; None where it is not known. Then
            the intervals cover items only, and the verdict stays "undecided".

    Returns:
        "more data helps" if the gain from a half to all is significantly above 0, "more data hardly helps" if it is
        significantly below 1 % of the loss, else "undecided".
    """
    if quarter is None or half is None or full is None:
        return MoreData("not measured")
    first, second = (
        _with_seeds(objective_rise(less, more, groups, weights), seed_sd or 0.0)
        for less, more in ((quarter, half), (half, full))
    )
    gain, low, high = _bounds(second)
    total = sum(weights.values())
    level = sum(weight / total * sum(full[area]) / len(full[area]) for area, weight in weights.items())
    verdict: Verdict = "undecided"
    if seed_sd is None:
        pass  # the seeds' luck alone may be larger than any gain
    elif low > 0.0:
        verdict = "more data helps"
    elif high < WORTH * level:
        verdict = "more data hardly helps"
    expected = None
    if first.value > 0.0 and gain > 0.0:
        # A power law loses the same factor with each doubling. At most the next brings as much as the last may have.
        expected = (gain * min(1.0, gain / first.value), max(0.0, high))
    return MoreData(verdict, _bounds(first), (gain, low, high), expected)


def _bounds(gain: Difference) -> tuple[float, float, float]:
    bound = gain.bound(CONFIDENCE)
    return gain.value, gain.value - bound, gain.value + bound


def _with_seeds(rise: Difference, seed_sd: float) -> Difference:
    # Two trials are two draws of the seed. Their sd counts as known: the degrees of freedom stay the items'.
    return Difference(rise.value, math.sqrt(rise.error**2 + 2.0 * seed_sd**2), rise.df)
