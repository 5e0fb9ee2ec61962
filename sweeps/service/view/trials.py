"""A sweep's trials as the page shows them: how each has ended, and its curve; kept until their files change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from analysis.records.json_files import read_json_lines
from sweeps.ledger.ledger import Ledger
from trainables.errors import UserError

CURVE_KEYS = ("step", "lr", "loss", "base_loss", "grad_norm", "clipped", "tokens")  # without the samples' ids
FILES_KEPT = 64  # in memory: all who watch a sweep ask for the same

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """What was made of files, each until it changes; of the last `FILES_KEPT` that were asked for. Thread-safe.

    Args:
        make: Reads a file.
    """

    def __init__(self, make: Callable[[Path], Made]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: dict[Path, tuple[tuple[int, int], Made]] = {}

    def of(self, path: Path) -> Made:
        """What the file holds now."""
        status = path.stat()
        stamp = status.st_mtime_ns, status.st_size
        with self._lock:
            known = self._made.pop(path, None)
        made = known[1] if known and known[0] == stamp else self._make(path)
        with self._lock:
            self._made[path] = stamp, made  # one version of a file: a running trial's curve has many
            while len(self._made) > FILES_KEPT:
                self._made.pop(next(iter(self._made)))
        return made


def read_curve(path: Path) -> list[dict[str, Any]]:
    """A trial's loss curve, a record a step."""
    lines, _ = read_json_lines(path)
    return [{key: line.get(key) for key in CURVE_KEYS} for _, line in lines]


def read_ends(path: Path) -> dict[str, str]:
    """How each trial of `trials.jsonl` has ended; its last line counts."""
    try:
        lines, _ = read_json_lines(path)
    except UserError:  # a line is damaged
        return {}
    return {str(trial.get("trial_id")): str(trial.get("state")) for _, trial in lines}


def read_trained_again(path: Path) -> set[str]:
    """Trials that were submitted, by the ledger, after they had ended: a resumed sweep trains failed ones again."""
    ended, again = set(), set()
    for event in Ledger(path.parent).read()[0]:
        if event["event"] == "trial_ended":
            ended.add(event["trial"]["trial_id"])
            again.discard(event["trial"]["trial_id"])
        elif event["event"] == "trial_submitted" and event["spec"]["trial_id"] in ended:
            again.add(event["spec"]["trial_id"])
    return again
