"""Shares a cluster's lanes out among the sweeps that run: each gets a target, and says how many it needs.

`targets` and `has_room` are pure. A lane is a part of the cluster: one of `room` lanes of its kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sweeps.lanes.lane_share import LaneNeeds, LaneShare
from sweeps.service.queue.entries import Entry
from sweeps.service.queue.shares import Part, Parts

SWEEPS_AT_ONCE = 8  # ours: each has a driver on the head
ROUNDING = 1e-9  # of parts of a cluster that together are a whole one


def targets(needs: Mapping[str, LaneNeeds], weights: Mapping[str, float]) -> dict[str, int]:
    """Lanes by sweep: one each, and each further one to the sweep with the smallest part of the cluster over weight.

    Args:
        needs: By sweep, the oldest first, which comes first among equals.
        weights: What is due to each sweep, against the others'.
    """
    given = dict.fromkeys(needs, 1)
    while True:
        free = 1.0 - sum(given[name] / need.room for name, need in needs.items())
        may_grow = [
            name
            for name, need in needs.items()
            if given[name] < min(need.needed, need.room) and 1 / need.room <= free + ROUNDING
        ]
        if not may_grow:
            return given
        given[min(may_grow, key=lambda name: given[name] / needs[name].room / weights[name])] += 1


def has_room(needs: list[LaneNeeds | None]) -> bool:
    """Whether another sweep gets a lane where every sweep that runs, with these needs, keeps one.

    Nothing is known of the next one: it is taken to need as much for a lane as the largest. One sweep at a time begins,
    for what a sweep needs is known only when its driver has looked at the cluster.
    """
    known = [1 / need.room for need in needs if need is not None]
    return not needs or (len(known) == len(needs) < SWEEPS_AT_ONCE and sum(known) + max(known) <= 1 + ROUNDING)


class Broker:
    """Gives each running sweep its target.

    Args:
        folder: The service's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "lanes"
        self._folder.mkdir(exist_ok=True)

    def arguments(self, entry: Entry) -> list[str]:
        """What `sweeps.run` is told of an attempt that begins now, with one lane."""
        self._of(entry).allow(1)
        return ["--lane-share", str(self._stem(entry))]

    def has_room(self, running: list[Entry]) -> bool:
        """See the function of that name."""
        return has_room([self._of(entry).needs for entry in running])

    def share(self, running: list[Entry], parts: Parts) -> None:
        """Sets the targets of the sweeps that run; a user's part is shared among the user's sweeps."""
        shares = {entry: self._of(entry) for entry in sorted(running, key=lambda entry: entry.number)}
        # One that is still being planned takes no lane from the others: it has told no needs.
        needs = {entry.name: told for entry, share in shares.items() if (told := share.needs)}
        users = Counter(entry.user for entry in running)
        weights = {entry.name: parts.get(entry.user, Part()).share / users[entry.user] for entry in running}
        given = targets(needs, weights)
        for entry, share in shares.items():
            share.allow(given.get(entry.name, 1))

    def _of(self, entry: Entry) -> LaneShare:
        return LaneShare(self._stem(entry))

    def _stem(self, entry: Entry) -> Path:
        # By numbers alone: a cluster's shell reads it.
        return self._folder / f"{entry.number}-{entry.attempt}"
