"""PURE. Whether searching paid: did any setting beat the recommended one by more than is worth having?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Outcome = Literal["best", "enough", "beaten", "unknown"]


def recommended_outcome(is_best: bool, interval: Sequence[float] | None, worthwhile: float) -> Outcome:
    """Judges the recommended setting.

    Args:
        is_best: Whether the recommended setting is the one that the sweep names.
        interval: Of the named setting's lead over it, in the metric's unit; must hold for all settings at once, for the
            named one was picked among them. None where the luck of seeds is not known.
        worthwhile: Smallest lead that is worth having.

    Returns:
        "best"; "enough" (the lead is known to be at most `worthwhile`); "beaten" (it is known to be more); "unknown".
    """
    if is_best:
        return "best"
    if interval is not None and interval[1] <= worthwhile:
        return "enough"
    return "beaten" if interval is not None and interval[0] > worthwhile else "unknown"
