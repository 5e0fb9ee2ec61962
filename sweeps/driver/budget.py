"""What a sweep has cost and will cost, in device-hours: the time that its lanes hold their GPUs (or CPU workers)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS_PER_HOUR = 3600.0
MEASURED_FROM = 0.05
"""Fraction of a trial that must be done before a forecast is made: the first steps of a lane are slow."""


class Budget:
    """Device-hours of one sweep, over all its starts.

    A device counts while a lane has it, idle or busy: it is held, and nobody else can use it.

    Args:
        devices: GPUs (on CPUs: workers) of all lanes at the start; `hold` tells of other numbers.
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
        self.devices, self.cap_hours, self._clock = devices, cap_hours, clock
        self._spent_hours, self._counted = before_hours, clock()
        self._before_search: float | None = None
        self._lock = threading.Lock()

    def hold(self, devices: int) -> None:
        """From now on the lanes hold so many devices."""
        self.spent_hours()
        self.devices = devices

    def spent_hours(self) -> float:
        """Device-hours so far, earlier starts included."""
        with self._lock:
            now = self._clock()
            self._spent_hours += self.devices * (now - self._counted) / SECONDS_PER_HOUR
            self._counted = now
            return self._spent_hours

    def is_spent(self) -> bool:
        """Whether the cap is reached."""
        return self.cap_hours is not None and self.spent_hours() >= self.cap_hours

    def search_begins(self) -> None:
        """Call when the first trial can start: from here on time is measured for the forecast."""
        self._before_search = self.spent_hours()

    def forecast_hours(self, done: float, trials: int) -> float | None:
        """Device-hours of the whole sweep, from the speed measured so far.

        Args:
            done: Trials' worth of work done since `search_begins`; a running trial counts by its part of the epoch.
            trials: Trials to be done since `search_begins`.

        Returns:
            None before a twentieth of a trial is done.
        """
        if self._before_search is None or done < MEASURED_FROM:
            return None
        spent = self.spent_hours()
        return spent + (spent - self._before_search) / done * max(0.0, trials - done)


def trials_done(jobs: Mapping[str, Mapping[str, Any]]) -> float:
    """Trials' worth of work in the dispatcher's status: 1 for each trial that ended, a fraction for a running one."""
    return sum(
        1.0 if job["state"] == "ended" else job["step"] / job["steps"] if job.get("steps") else 0.0
        for job in jobs.values()
    )
