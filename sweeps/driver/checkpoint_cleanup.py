"""Drops the checkpoints that `sweeps.driver.checkpoint_retention` gives up: said in the ledger first, then removed
from the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sweeps.driver.checkpoint_retention import Ended, Key, kept
from sweeps.ledger.history import DROPPED, marked
from sweeps.ledger.ledger import Ledger
from trainables.evaluation.objective import objectives_by_step
from trainables.storage.layout import CHECKPOINTS_FOLDER, trial_file
from trainables.storage.working_copy import WorkingCopy

Record = dict[str, Any]


class CheckpointCleaner:
    """Knows which checkpoints of trials that have ended lie on the disk.

    Those that do not have no say: none of them is wanted again.

    Args:
        copy: The sweep's folder, and its store, if it lies in one.
        ledger: Where it is said what is dropped.
        most: Settings of which a checkpoint is kept, or "all": every checkpoint of every trial.
        weights: Of the held-out areas in the objective.
        ended: Trials that earlier starts of the sweep recorded.
        contenders: Settings that are being confirmed; more are told by `protect`.
    """

    def __init__(
        self,
        copy: WorkingCopy,
        ledger: Ledger,
        most: int | Literal["all"],
        weights: Mapping[str, float],
        ended: Iterable[Record] = (),
        contenders: Iterable[str] = (),
    ) -> None:
        self.copy, self.ledger, self.most, self.weights = copy, ledger, most, weights
        self.contenders = set(contenders)
        self._live: dict[str, Record] = {}
        for record in ended:  # a driver that was killed may have left what it had dropped
            self._note(record)
            if most != "all":
                self._remove(record)

    def protect(self, contenders: Iterable[str]) -> None:
        """Keeps a checkpoint of these settings whatever else is better."""
        self.contenders |= set(contenders)

    def judge(self, record: Record) -> Record:
        """The record of a trial that has just ended, its checkpoints marked as kept or not."""
        stay = self._stay([*self._live.values(), record])
        points = [{**point, "kept": stay is None or _key(record, point) in stay} for point in record["checkpoints"]]
        return {**record, "checkpoints": points}

    def ended(self, record: Record) -> None:
        """Drops what a trial's end leaves without use, of its own checkpoints and of others; the ledger has its end.

        Args:
            record: As `judge` gave it.
        """
        self._note(record)
        stay = self._stay(self._live.values())
        if stay is None:
            return
        before = {_key(other, point): other for other in self._live.values() for point in _kept_points(other)}
        gone = sorted(before.keys() - stay)
        if gone:
            self.ledger.append(DROPPED, checkpoints=[{"trial_id": name, "step": step} for name, step in gone])
        for other in {name: before[name, step] for name, step in gone}.values():
            now = marked(other, [step for name, step in gone if name == other["trial_id"]])
            self._note(now)
            self._remove(now)
        self._remove(record)

    def _note(self, record: Record) -> None:
        self._live.pop(record["trial_id"], None)
        if _kept_points(record):
            self._live[record["trial_id"]] = record

    def _stay(self, records: Iterable[Record]) -> set[Key] | None:
        if self.most == "all":
            return None
        return kept((_ended(record, self.weights) for record in records), self.most, self.contenders)

    def _remove(self, record: Record) -> None:
        """Removes all of a trial's checkpoints that are not marked as kept, whoever wrote them."""
        places = {f"step-{point['step']}" for point in _kept_points(record)}
        self.copy.keep_only(trial_file(record["trial_id"], CHECKPOINTS_FOLDER), places)


def _ended(record: Record, weights: Mapping[str, float]) -> Ended:
    return Ended(
        trial_id=record["trial_id"],
        setting=record["replicate_of"] if record["kind"] == "replicate" else record["trial_id"],
        competes=record["state"] == "complete" and record["kind"] in ("search", "replicate"),
        objectives=objectives_by_step(record, weights),
    )


def _key(record: Record, point: Record) -> Key:
    return record["trial_id"], point["step"]


def _kept_points(record: Record) -> list[Record]:
    return [point for point in record["checkpoints"] if point.get("kept", True)]
