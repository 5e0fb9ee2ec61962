"""PURE. What more data would bring, from complete schedules on nested parts of the training set.

One curve can't tell: its late fall is the LR decay's. Trials on a quarter, on a half that holds the quarter, and on all
of the samples, each with its whole schedule and the same settings, can; they cost three quarters of a trial beside the
full one, so they are run only when asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainables.diagnostics.generalization import Items, objective_rise
from trainables.diagnostics.running_stats import Difference

CONFIDENCE = 0.975
"""Of each of the two bounds of an interval."""

WORTH = 0.01
"""A doubling that brings less than this part of the loss is not worth the data. Ours."""

Verdict = Literal["not measured", "more data helps", "more data hardly helps", "undecided"]


@dataclass(frozen=True)
class MoreData:
    """What doubling the data brought, and may bring."""

    verdict: Verdict  # in a word
    # gain from a quarter to a half, nats a token, with its interval; None where not measured
    from_quarter: tuple[float, float, float] | None = None
    from_half: tuple[float, float, float] | None = None  # gain from a half to all, likewise
    # Gain to be expected of twice the data if the gains go on falling by the same ratio: (estimate, most). None where
    # the gains so far don't say.
    next_doubling: tuple[float, float] | None = None

    def sentence(self) -> str:
        """The verdict for a reader."""
        if self.from_half is None:
            return "What more data would bring: not measured."
        gain, low, high = self.from_half
        said = f"What more data would bring: the second half brought {gain:.3f} nats a token [{low:.3f}, {high:.3f}]"
        if self.next_doubling is not None:
            said += f"; twice the data may bring about {self.next_doubling[0]:.3f}, at most {self.next_doubling[1]:.3f}"
        return f"{said}: {self.verdict}."


def more_data(
    quarter: Items | None,
    half: Items | None,
    full: Items | None,
    groups: Mapping[str, Sequence[str]],
    weights: Mapping[str, float],
    seed_sd: float,
) -> MoreData:
    """Compares the last checkpoints of the three trials, item by item.

    Args:
        quarter: Each area's items' mean losses after a complete schedule on a quarter of the samples; None if not run.
        half: Likewise on a half.
        full: Likewise on all.
        groups: Each item's cluster, by area and in the items' order.
        weights: Weight of each area that selects.
        seed_sd: Standard deviation of the objective between seeds, in nats a token; each trial has its own luck.

    Returns:
        "more data helps" if the gain from a half to all is certainly above 0, "more data hardly helps" if it is
        certainly below 1 % of the loss, else "undecided". With the ratio r of the two gains in 0 to 1 (a power law
        loses the same factor with each doubling), the next doubling is expected to bring r times the last, and at most
        as much as the upper bound of the last.
    """
    if quarter is None or half is None or full is None:
        return MoreData("not measured")
    first, second = (
        _with_seeds(objective_rise(less, more, groups, weights), seed_sd)
        for less, more in ((quarter, half), (half, full))
    )
    low, high = second.value - second.bound(CONFIDENCE), second.value + second.bound(CONFIDENCE)
    total = sum(weights.values())
    level = sum(weight / total * sum(full[area]) / len(full[area]) for area, weight in weights.items())
    verdict: Verdict = "undecided"
    if low > 0.0:
        verdict = "more data helps"
    elif high < WORTH * level:
        verdict = "more data hardly helps"
    expected = None
    if first.value > 0.0 and second.value > 0.0:
        expected = (second.value * min(1.0, second.value / first.value), max(0.0, high))
    bound = first.bound(CONFIDENCE)
    return MoreData(
        verdict, (first.value, first.value - bound, first.value + bound), (second.value, low, high), expected
    )


def _with_seeds(rise: Difference, seed_sd: float) -> Difference:
    """Two trials differ by two draws of the seed as well; as if the sd were known (degrees of freedom kept)."""
    return Difference(rise.value, math.sqrt(rise.error**2 + 2.0 * seed_sd**2), rise.df)
