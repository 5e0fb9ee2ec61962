"""Trials at a checkpoint: what is under way there, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainables.data.epoch import checkpoint_steps

Status = Mapping[str, Any]


class Evaluations:
    """The evaluations of a sweep's trials, past and under way.

    Args:
        checkpoints_at: Fractions of the epoch after which a trial is evaluated.
        clock: Monotonic time in seconds.
    """

    def __init__(self, checkpoints_at: Sequence[float], clock: Callable[[], float]) -> None:
        self._checkpoints_at, self._clock = checkpoints_at, clock
        self._since: dict[tuple[str, int], float] = {}  # by trial and step
        self._seconds: list[float] = []  # of those that are over

    def follow(self, trial_id: str, job: Status) -> None:
        """Times a trial's evaluations; to be called at every look at it."""
        now, under_way = self._clock(), bool(self.words(job))
        if under_way:
            self._since.setdefault((trial_id, job["step"]), now)
        for key in [key for key in self._since if key[0] == trial_id and not under_way]:
            self._seconds.append(now - self._since.pop(key))

    def words(self, job: Status) -> str:
        """What a trial at a checkpoint does: `scoring 40 %`, `answering 5 %`; empty for one that trains."""
        if job["state"] != "running" or "step" not in job:
            return ""
        scored = {point["step"] for point in job.get("points", ())}
        if job["step"] in scored or job["step"] not in checkpoint_steps(self._checkpoints_at, job["steps"]):
            return ""
        # Before the lane's first report of it, and with lanes of an earlier version, more is not known.
        return f"{job['doing']} {100 * job['share']:.0f} %" if "doing" in job else "evaluating"

    def seconds_left(self, trial_id: str, job: Status) -> float | None:
        """Time that a trial's evaluation will take, as long as the ones before it took; None for the first."""
        if not self._seconds or (trial_id, job["step"]) not in self._since:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        return max(0.0, mean - (self._clock() - self._since[trial_id, job["step"]]))
