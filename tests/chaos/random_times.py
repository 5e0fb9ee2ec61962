"""Kills at random times: `python -m tests.chaos --random N`, over small sweeps of two lanes with packed trials.

A seed gives the times and the kinds of process; where each of them then is, the machine decides.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from pathlib import Path

from tests.chaos.acts import Act
from tests.chaos.audit import audit
from tests.chaos.conductor import ChaosError, Conductor
from trainables.reliability.fault_injection import OWN, Kill

TRIALS, LANES, SLOTS = 12, 2, 2
KILLS_A_SWEEP = 10
# From a driver's start, or the last kill: a start takes some 15 s on an idle machine, the whole sweep some 60 s.
MOST_SECONDS = 30.0
# A driver's death costs the next one's start, so the others are killed more often.
TARGETS = {"worker": 4, "controller": 2, "dispatcher": 2, "driver": 3}


class RandomConductor(Conductor):
    """Kills at times that are drawn, whatever happens there.

    Args:
        act: The sweep; it has no kills of its own.
        place: Folder for all files.
        draws: Where times and targets come from.
        most: How many processes it kills; the sweep may end sooner.
    """

    def __init__(self, act: Act, place: Path, draws: random.Random, most: int) -> None:
        super().__init__(act, place)
        self._draws, self._most, self.killed = draws, most, list[tuple[float, str]]()
        self._began, self._due, self._seen = time.monotonic(), 0.0, 0

    def _look(self) -> None:
        if self._seen != self.starts:
            self._seen = self.starts
            self._draw()
        if len(self.killed) == self._most or time.monotonic() < self._due:
            return
        target = self._draws.choices([*TARGETS], [*TARGETS.values()])[0]
        try:
            self._carry_out(Kill("random", target, OWN, ""))
            self.killed.append((round(time.monotonic() - self._began, 1), target))
        except ChaosError:  # there is none at this moment: another moment
            pass
        self._draw()

    def _draw(self) -> None:
        self._due = time.monotonic() + self._draws.uniform(0, MOST_SECONDS)


def at_random_times(seed: int, kills: int, to: Path) -> int:
    """Runs sweeps until so many processes were killed; returns the exit code, 0 when nothing was lost."""
    draws, done, wrong, sweeps = random.Random(seed), Counter[str](), 0, 0
    while done.total() < kills:
        sweeps += 1
        # By turns on a cluster that dies with its driver, and on one that outlives it.
        act = Act(f"random-{sweeps}", TRIALS, (sweeps + 1) % 2, "disabled", "all", [], lanes=LANES, slots=SLOTS)
        place, began = to / act.name, time.monotonic()
        shutil.rmtree(place, ignore_errors=True)
        conductor = RandomConductor(act, place, draws, min(KILLS_A_SWEEP, kills - done.total()))
        try:
            conductor.run()
            found = audit(act, conductor.folder)
        except ChaosError as error:
            found = [f"lost: {error}"]
        found += [f"left: process {title}" for title in conductor.left]
        print(*(f"WRONG {fault}" for fault in found), sep="\n", end="\n" if found else "")
        said = ", ".join(f"{target} at {at:g} s" for at, target in conductor.killed)
        print(
            f"{act.name}: {len(conductor.killed)} kills ({said}), {conductor.starts} starts of the driver, "
            f"{time.monotonic() - began:.0f} s, {len(found)} faults",
            flush=True,
        )
        done.update(target for _, target in conductor.killed)
        wrong += len(found)
    kinds = ", ".join(f"{count} of a {target}" for target, count in sorted(done.items()))
    print(f"{done.total()} kills at random times ({kinds}), {sweeps} sweeps: {wrong} faults")
    return 1 if wrong else 0
