"""What `benchmarks.gpu` measures, on a GPU and in a dry run on CPUs, and the time that it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, NamedTuple

from benchmarks.packing.sides import Pace

Method = Literal["lora", "full"]


class Cell(NamedTuple):
    """A comparison of speeds: `tokens` a step and trial, and the numbers of trials side by side."""

    shape: str
    method: Method
    tokens: int
    slots: tuple[int, ...]


class Peak(NamedTuple):
    """A trial whose peak memory is compared with its forecast."""

    shape: str
    method: Method
    slots: int
    samples: int
    tokens: int

    def words(self) -> str:
        return f"{self.shape}, {self.method}, {self.slots} x {self.samples} x {self.tokens} tokens"


@dataclass(frozen=True)
class Sizes:
    """Shapes and paces.

    Attributes:
        shape: Of the checks and the stalls.
        tokens: A step and trial, in the checks and stalls.
        check_steps: Steps of a trial in the check of packs.
        cells: The first is the one that the targets are for.
        pace: Of the cells.
        stalls: Steps of a trial with three checkpoints.
        rounds: Turns of each side, at most.
        peaks: Trials whose memory is measured.
    """

    shape: str
    tokens: int
    check_steps: int
    cells: tuple[Cell, ...]
    pace: Pace
    stalls: Pace
    rounds: int
    peaks: tuple[Peak, ...]


GPU = Sizes(
    shape="0.5B",
    tokens=1024,
    check_steps=30,
    cells=(
        Cell("0.5B", "lora", 1024, (2, 4, 8)),
        Cell("0.5B", "full", 4096, ()),
        Cell("1.5B", "lora", 4096, (2, 4)),
        Cell("7B", "lora", 4096, ()),
    ),
    pace=Pace(warm_up_steps=3, steps=6, batch_size=8),
    stalls=Pace(warm_up_steps=0, steps=24, batch_size=8),
    rounds=3,
    peaks=(
        Peak("0.5B", "lora", 1, 8, 512),
        Peak("0.5B", "lora", 4, 8, 512),
        Peak("0.5B", "full", 1, 8, 512),
        Peak("1.5B", "full", 1, 8, 1024),
        Peak("7B", "lora", 1, 4, 1024),
    ),
)
DRY = Sizes(
    shape="tiny",
    tokens=32,
    check_steps=4,
    cells=(Cell("tiny", "lora", 32, (2,)), Cell("tiny", "full", 32, ())),
    pace=Pace(warm_up_steps=1, steps=1, batch_size=2),
    stalls=Pace(warm_up_steps=0, steps=3, batch_size=2),
    rounds=1,
    peaks=(Peak("tiny", "lora", 2, 2, 16),),
)


class Budget:
    """The time of a run.

    Args:
        minutes: How long it lasts.
        started: When it began, by `time.monotonic`.
    """

    def __init__(self, minutes: float, started: float) -> None:
        self._started, self._end = started, started + 60.0 * minutes

    @property
    def spent(self) -> float:
        """Seconds."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        """Seconds, 0 at least."""
        return max(0.0, self._end - time.monotonic())
