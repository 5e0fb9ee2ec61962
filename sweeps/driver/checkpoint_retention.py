"""Which checkpoints the sweep's disk holds. Pure.

What can still be asked for is the best checkpoint of a setting that may win, over all of its trials: that is what the
leaderboard names and the export writes. So the disk holds one of each of the best settings, by held-out objective, and
one of each setting that is being confirmed. Scores stay when a checkpoint goes: all of them compete in the ranking.

A setting among the best once is so as long as no better one ends, and none comes back: nothing that was dropped is ever
wanted again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from trainables.checkpoints.retention import CLOSE_NATS

Key = tuple[str, int]
"""A checkpoint: its trial's id and its step."""


class Ended(NamedTuple):
    """A trial that has ended.

    Attributes:
        trial_id: Its id.
        setting: The search trial that it repeats, or itself.
        competes: Whether it can win: it is complete, of the search or a replicate.
        objectives: By step, nats a token; lower is better.
    """

    trial_id: str
    setting: str
    competes: bool
    objectives: Mapping[int, float]


def kept(trials: Iterable[Ended], most: int, contenders: Collection[str] = ()) -> set[Key]:
    """The checkpoints that stay, of trials that have ended.

    Args:
        trials: All that have ended.
        most: Settings of which a checkpoint is kept, the best first, at least 1.
        contenders: Settings that are being confirmed, or were: their checkpoints stay beyond `most`.

    Returns:
        Of each such setting the lowest checkpoint over all its trials, and those that equal it.
    """
    settings: dict[str, dict[Key, float]] = {}
    for trial in trials:
        if trial.competes:
            points = {(trial.trial_id, step): value for step, value in trial.objectives.items() if math.isfinite(value)}
            settings.setdefault(trial.setting, {}).update(points)
    best = {name: min(points.values()) for name, points in settings.items() if points}
    ranked = sorted(best, key=lambda name: (best[name], name))
    stay = {*ranked[:most], *(name for name in ranked if name in contenders)}
    # One that is as good as the last of them might stand before it on the leaderboard.
    stay |= {name for name in ranked[most:] if best[name] <= best[ranked[most - 1]] + CLOSE_NATS}
    return {key for name in stay for key, value in settings[name].items() if value <= best[name] + CLOSE_NATS}
