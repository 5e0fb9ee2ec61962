"""A model's scores on all areas that select, with reports of what is under way for the live view."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import nn

from trainables.evaluation.heldout import ItemScore
from trainables.lane.warm_state import LaneState
from trainables.reliability.activity import Doing, reported_to

EVERY_SECONDS = 0.5  # the live view looks twice a second


def score_areas(
    lane_state: LaneState, model: nn.Module, *, with_answers: bool, report: Callable[[dict[str, Any]], None]
) -> dict[str, list[ItemScore]]:
    """Scores a model on every item of the areas that select.

    Args:
        lane_state: The warm lane.
        model: The model.
        with_answers: Whether answers are generated too.
        report: Called now and then with `doing` ("scoring" or "answering") and `share`, of the items of all areas.

    Returns:
        The items' scores by area.
    """
    areas = {area: len(lane_state.areas[area]) for area in lane_state.settings.heldout.weights}
    found: dict[str, list[ItemScore]] = {}
    before, told = 0, 0.0

    def listen(doing: Doing, share: float) -> None:
        nonlocal told
        if time.monotonic() - told >= EVERY_SECONDS:
            told = time.monotonic()
            report({"doing": doing, "share": (before + share * items) / sum(areas.values())})

    for area, items in areas.items():
        with reported_to(listen):
            found[area] = lane_state.score(model, area, with_answers=with_answers)
        before += items
    return found
