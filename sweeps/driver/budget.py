"""A sweep's cost in device-hours: the time for which its lanes hold GPUs, or CPU workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from trainables.lane.trial_parts import has_ended

SECONDS_PER_HOUR = 3600.0
MEASURED_FROM = 0.05  # fraction of a trial before the first forecast, as a lane's first steps are slow


class Budget:
    """Device-hours of one sweep, over all its starts.

    A device counts while a lane holds it, idle or busy; a lane that waits for resources holds none.

    Args:
        devices: GPUs (on CPUs: workers) that lanes hold at the start; `hold` changes the number.
        cap_hours: Device-hours that the sweep may cost; None for no cap.
        before_hours: Cost of earlier starts of the sweep.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self,
        devices: int,
        cap_hours: float | None,
        before_hours: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.devices, self.cap_hours = devices, cap_hours
        self._clock = clock
        self._spent_hours, self._counted = before_hours, clock()
        self._before_search: float | None = None
        self._lock = threading.Lock()  # the supervisor, the recorder and the driver all ask

    def hold(self, devices: int) -> None:
        """Sets the number of devices that the lanes hold from now on."""
        self.spent_hours()  # counts the time until now by the old number
        self.devices = devices

    def spent_hours(self) -> float:
        """Returns the device-hours so far, earlier starts included."""
        with self._lock:
            now = self._clock()
            self._spent_hours += self.devices * (now - self._counted) / SECONDS_PER_HOUR
            self._counted = now
            return self._spent_hours

    def is_spent(self) -> bool:
        return self.cap_hours is not None and self.spent_hours() >= self.cap_hours

    def search_begins(self) -> None:
        """Starts the forecast's measurement; call when the first trial can start."""
        self._before_search = self.spent_hours()

    def forecast_hours(self, done: float, trials: float) -> float | None:
        """Extrapolates the device-hours of the whole sweep from the speed measured so far.

        Args:
            done: Trials' worth of work since `search_begins`; a running trial counts by its part of the epoch.
            trials: Trials to train since `search_begins`.

        Returns:
            None until `MEASURED_FROM` of a trial is done.
        """
        if self._before_search is None or done < MEASURED_FROM:
            return None
        spent = self.spent_hours()
        return spent + (spent - self._before_search) / done * max(0.0, trials - done)


def trials_done(jobs: Mapping[str, Mapping[str, Any]]) -> float:
    """Sums the work in the dispatcher's status: 1 for each ended trial, a fraction for a running or paused one."""
    return sum(
        1.0 if has_ended(job) else job["step"] / job["steps"] if job.get("steps") else 0.0 for job in jobs.values()
    )
