"""What the runner asks of a place where sweeps run: this machine, a Ray cluster, Slurm, or Kubernetes with Kueue."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from sweeps.service.queue.entries import Entry
from trainables.errors import UserError


class Seen(NamedTuple):
    """An attempt, as it is now.

    Attributes:
        lives: Whether it runs, or waits to be run.
        code: Exit code of one that has ended; None where it ended with its machine, or never began.
        waits_for: What it waits for, in the scheduler's words; "" for nothing.
    """

    lives: bool
    code: int | None = None
    waits_for: str = ""


class UnreachableError(UserError):
    """The place can't be asked now; nothing is known of the attempts there."""


class Attempts(Protocol):
    """Attempts at sweeps, each known by its entry and number: one that a service began is found by a later service.

    Attributes:
        where: Names the place in the log.
        keeps_order: Whether the place orders what waits, by its own quotas and shares: all sweeps are handed over.
        look_every_seconds: How often the place may be asked.
    """

    where: str
    keeps_order: bool
    look_every_seconds: float

    def begin(self, entry: Entry, config: Path, resume: Path | None, more: list[str]) -> None:
        """Begins the entry's latest attempt, which is in the log.

        Args:
            entry: The sweep.
            config: Its config, as it was sent.
            resume: Its folder, if it has begun before.
            more: Further arguments of `sweeps.run`.

        Raises:
            UserError: The place refuses it, for good.
            UnreachableError: The place can't be asked.
        """

    def look(self, entries: Iterable[Entry]) -> dict[str, Seen]:
        """The latest attempt of each entry, by the sweep's name.

        Raises:
            UnreachableError: The place can't be asked.
        """

    def tell_to_stop(self, entry: Entry) -> bool:
        """Tells an attempt to end in order; False where it can't be told yet."""

    def errors(self, entry: Entry) -> str:
        """The lines of an attempt's output that begin with `error: `."""


def job_id(entry: Entry) -> str:
    """Names an entry's latest attempt, by what is in the log."""
    return f"{entry.key}-{entry.attempt}"


def unique_id(entry: Entry, folder: Path) -> str:
    """Names it where several services may have jobs, by the service's folder; it begins as Kubernetes' names do."""
    service = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return f"sweep-{entry.number}-{entry.attempt}-{service}-{entry.name}"


def error_lines(output: str) -> str:
    """Those that begin with `error: `."""
    return "\n".join(line for line in output.splitlines() if line.startswith("error: "))
