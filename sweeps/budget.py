"""What a sweep has cost and will cost, in device-hours: the time that its lanes hold their GPUs (or CPU workers)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS_PER_HOUR = 3600.0
MEASURED_FROM = 0.05
"""Fraction of a trial that must be done before a forecast is made: the first steps of a lane are slow."""


class Budget:
    """Device-hours of one sweep, over all its starts.

    A device counts from when the lanes are started to the end, idle or busy: it is held, and nobody else can use it.

    Args:
        devices: GPUs (on CPUs: workers) of all lanes.
        cap_hours: Device-hours that the sweep may cost; None for no cap.
        before_hours: What earlier starts of the sweep have cost.
        clock: Seconds that pass evenly.
    """

    def __init__(
        self,
        devices: int,
        cap_hours: float | None,
        before_hours: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.devices, self.cap_hours, self.before_hours, self._clock = devices, cap_hours, before_hours, clock
        self._started = clock()
        self._search_started: float | None = None

    def spent_hours(self) -> float:
        """Device-hours so far, earlier starts included."""
        return self.before_hours + self._hours_since(self._started)

    def is_spent(self) -> bool:
        """Whether the cap is reached."""
        return self.cap_hours is not None and self.spent_hours() >= self.cap_hours

    def search_begins(self) -> None:
        """Call when the first trial can start: from here on time is measured for the forecast."""
        self._search_started = self._clock()

    def forecast_hours(self, done: float, trials: int) -> float | None:
        """Device-hours of the whole sweep, from the speed measured so far.

        Args:
            done: Trials' worth of work done since `search_begins`; a running trial counts by its part of the epoch.
            trials: Trials to be done since `search_begins`.

        Returns:
            None before a twentieth of a trial is done.
        """
        if self._search_started is None or done < MEASURED_FROM:
            return None
        left = self._hours_since(self._search_started) / done * max(0.0, trials - done)
        return self.spent_hours() + left

    def _hours_since(self, start: float) -> float:
        return self.devices * (self._clock() - start) / SECONDS_PER_HOUR


def trials_done(jobs: Mapping[str, Mapping[str, Any]]) -> float:
    """Trials' worth of work in the dispatcher's status: 1 for each trial that ended, a fraction for a running one."""
    return sum(
        1.0 if job["state"] == "ended" else job["step"] / job["steps"] if job.get("steps") else 0.0
        for job in jobs.values()
    )
