"""How many lanes a sweep may hold on a cluster that the service shares out: two small files between the two.

The service writes `STEM.target.json`, the sweep's driver `STEM.needs.json`. A sweep that was started without a service
has neither, and holds what its config says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from trainables.lane.messages import JobStatus
from trainables.storage.atomic import write_whole


@dataclass(frozen=True)
class LaneNeeds:
    """What a sweep tells the service.

    Attributes:
        room: Lanes of the sweep's kind that the whole cluster holds.
        needed: Lanes for which it has work.
    """

    room: int
    needed: int


def lanes_needed(jobs: Iterable[JobStatus], to_come: int, slots: int) -> int:
    """Lanes for which a sweep has work.

    Args:
        jobs: All that were submitted so far.
        to_come: Trials that the search may propose still.
        slots: Trials that a lane trains side by side.
    """
    left = [job for job in jobs if job["state"] != "ended"]
    busy = {job["lane"] for job in left if job["state"] == "running"}
    # At a sweep's end trials may be spread over more lanes than could hold them: none is moved for that.
    return max(len(busy), math.ceil((len(left) + to_come) / slots))


class LaneShare:
    """The two files.

    Args:
        stem: Their path without the endings.
    """

    def __init__(self, stem: Path) -> None:
        self._target_file, self._needs_file = (stem.with_name(f"{stem.name}.{end}.json") for end in ("target", "needs"))
        self._target, self._told = 1, LaneNeeds(0, 0)

    @property
    def target(self) -> int:
        """Lanes that the sweep may hold, 1 or more."""
        # What was said last holds where the file can't be read: the service may be gone, or its disk for a moment.
        if (allowed := self._allowed()) is not None:
            self._target = max(1, allowed)
        return self._target

    def _allowed(self) -> int | None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._target_file.read_text(encoding="utf-8"))["lanes"])
        return None

    def allow(self, lanes: int) -> None:
        """Says how many lanes the sweep may hold; for the service."""
        if self._allowed() != lanes:
            write_whole(self._target_file, json.dumps({"lanes": lanes}))

    @property
    def needs(self) -> LaneNeeds | None:
        """What the sweep needs; None before it has said so."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self._needs_file.read_text(encoding="utf-8"))
            return LaneNeeds(max(1, int(found["room"])), max(1, int(found["needed"])))
        return None

    def tell(self, needs: LaneNeeds) -> None:
        """Says what the sweep needs; for its driver."""
        if needs == self._told:
            return
        with suppress(OSError):  # the sweep goes on with the lanes that it has; it tells again
            write_whole(self._needs_file, json.dumps(asdict(needs)))
            self._told = needs
