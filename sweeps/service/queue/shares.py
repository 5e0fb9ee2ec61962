"""Pure: what is due to each user, what each has used, and which sweeps wait for a quota."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sweeps.service.queue.entries import QUEUED, RUNNING, Entries, Entry

HALF_LIFE_SECONDS = 7 * 86400.0  # after a week, a device-hour counts half against its user
MONTH_SECONDS = 30 * 86400.0  # of a quota: the last 30 days, so that no month begins with a rush


class Part(NamedTuple):
    """What is due to a user.

    Attributes:
        share: Of the machine, against the others' shares.
        hours_a_month: Device-hours in 30 days at most; None for no quota.
    """

    share: float = 1.0
    hours_a_month: float | None = None


Parts = Mapping[str, Part]  # by user; `Part()` where one is missing


def usage(entries: Iterable[Entry], now: float) -> dict[str, float]:
    """Device-hours by user, each counted half a week after its sweep's end, a quarter after two."""
    hours: dict[str, float] = {}
    for entry in entries:
        age = max(0.0, now - entry.ended)  # a clock that was set back makes no sweep count double
        decayed = entry.device_seconds / 3600 * math.pow(0.5, age / HALF_LIFE_SECONDS)
        hours[entry.user] = hours.get(entry.user, 0.0) + decayed
    return hours


def in_order(entries: Entries, parts: Parts, now: float) -> list[Entry]:
    """The queued sweeps, the next one first: by priority, then device-hours used over share, then age.

    Args:
        entries: All.
        parts: What is due to each user.
        now: Seconds since 1970.
    """
    used = usage(entries.values(), now)
    return sorted(
        (entry for entry in entries.values() if entry.state == QUEUED),
        # The order of sending, not its time: clocks jump.
        key=lambda entry: (-entry.priority, used.get(entry.user, 0.0) / _part(parts, entry).share, entry.number),
    )


def over_quota(entry: Entry, entries: Entries, parts: Parts, now: float) -> str | None:
    """Why a queued sweep must wait for its user's quota; None where it may run.

    The quota holds what the user's sweeps of the last 30 days have cost, what is left of the forecasts of those that
    run, and this sweep's.

    Args:
        entry: The sweep.
        entries: All.
        parts: What is due to each user.
        now: Seconds since 1970.
    """
    quota = _part(parts, entry).hours_a_month
    if quota is None:
        return None
    own = [one for one in entries.values() if one.user == entry.user]
    spent = sorted((one.ended, one.device_seconds / 3600) for one in own if max(0.0, now - one.ended) < MONTH_SECONDS)
    used = sum(hours for _, hours in spent)
    held, need = sum(_left(one) for one in own if one.state == RUNNING), _left(entry)
    if used + held + need <= quota and used + held < quota:  # what is spent lets nothing of unknown need begin
        return None
    words = f"{entry.user}'s quota: {used + held:.3g} of {quota:.3g} device-hours in 30 days, this one needs {need:.3g}"
    left = used
    for ended, hours in spent:
        left -= hours
        if left + held + need <= quota:
            return f"{words}; free on {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(ended + MONTH_SECONDS))}"
    return words


def runnable(entries: Entries, parts: Parts, now: float) -> list[Entry]:
    """The queued sweeps that no quota holds back, the next one first."""
    return [entry for entry in in_order(entries, parts, now) if over_quota(entry, entries, parts, now) is None]


def is_known(entry: Entry, parts: Parts) -> bool:
    """Whether a sweep's user is still one; without any parts nothing is known of users."""
    return not parts or entry.user in parts


def _left(entry: Entry) -> float:
    # What a resumed sweep has cost before is among what was used.
    return max(0.0, (entry.forecast_hours or 0.0) - entry.device_seconds / 3600)


def _part(parts: Parts, entry: Entry) -> Part:
    return parts.get(entry.user, Part())
