"""Chooses which checkpoints stay stored. Pure.

The disk holds one checkpoint of each of the best settings, by held-out objective, and of each setting under
confirmation. Scores outlive their checkpoints: all of them compete in the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from trainables.checkpoints.retention import CLOSE_NATS

Key = tuple[str, int]  # a checkpoint: its trial's id and its step


class Ended(NamedTuple):
    """A trial that has ended.

    Attributes:
        trial_id: Its id.
        setting: The search trial that it repeats, or itself.
        competes: Whether it can win: it is complete.
        objectives: By step, lower is better; NaN where a checkpoint has no answers and these decide.
    """

    trial_id: str
    setting: str
    competes: bool
    objectives: Mapping[int, float]


def kept(trials: Iterable[Ended], most: int, contenders: Collection[str] = ()) -> set[Key]:
    """Selects the checkpoints that stay, among those of trials that have ended.

    Args:
        trials: All that have ended.
        most: Settings of which a checkpoint is kept, the best first, at least 1.
        contenders: Settings that are or were under confirmation; their checkpoints stay beyond `most`.

    Returns:
        For each such setting the lowest checkpoint over all its trials, and those that equal it.
    """
    settings: dict[str, dict[Key, float]] = {}
    for trial in trials:
        if trial.competes:
            points = {(trial.trial_id, step): value for step, value in trial.objectives.items() if math.isfinite(value)}
            settings.setdefault(trial.setting, {}).update(points)
    best = {name: min(points.values()) for name, points in settings.items() if points}
    # The set only shrinks as trials end: a setting that has left the best never returns, so deletion is safe.
    ranked = sorted(best, key=lambda name: (best[name], name))
    stay = {*ranked[:most], *(name for name in ranked if name in contenders)}
    # One that is as good as the last of them might stand before it on the leaderboard.
    stay |= {name for name in ranked[most:] if best[name] <= best[ranked[most - 1]] + CLOSE_NATS}
    return {key for name in stay for key, value in settings[name].items() if value <= best[name] + CLOSE_NATS}
