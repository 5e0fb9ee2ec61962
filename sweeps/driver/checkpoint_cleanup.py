"""Deletes the checkpoints that `sweeps.driver.checkpoint_retention` gives up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from sweeps.driver.checkpoint_retention import Ended, Key, kept
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import DROPPED, mark_dropped
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import COMPARED, RETRAIN, CheckpointRecord, TrialRecord
from trainables.evaluation.objective import Measure


class CheckpointCleaner:
    """Tracks which checkpoints of ended trials are stored, and deletes those without use.

    Args:
        store: The sweep's files.
        ledger: Records each deletion.
        most: Settings of which a checkpoint is kept, or "all" to keep every checkpoint.
        weights: Of the held-out areas in the objective.
        ended: Trials that earlier starts of the sweep recorded.
        contenders: Settings under confirmation; `protect` adds more.
        measure: What decides which are best; None for the NLL.
    """

    def __init__(
        self,
        store: SweepStore,
        ledger: Ledger,
        most: int | Literal["all"],
        weights: Mapping[str, float],
        ended: Iterable[TrialRecord] = (),
        contenders: Iterable[str] = (),
        measure: Measure | None = None,
    ) -> None:
        self.store, self.ledger = store, ledger
        self.most, self.weights, self.measure = most, weights, measure or Measure()
        self.contenders = set(contenders)
        self._live: dict[str, TrialRecord] = {}
        for record in ended:
            self._update(record)
            if most != "all":  # a killed driver may have recorded a deletion and not carried it out
                self._remove(record)

    def protect(self, contenders: Iterable[str]) -> None:
        """Keeps a checkpoint of these settings even if better ones end."""
        self.contenders |= set(contenders)

    def judge(self, record: TrialRecord) -> TrialRecord:
        """Marks the checkpoints of a trial that has just ended as kept or not."""
        stay = self._stay([*self._live.values(), record])
        points = record["checkpoints"]
        return {
            **record,
            "checkpoints": [{**p, "kept": stay is None or (record["trial_id"], p["step"]) in stay} for p in points],
        }

    def ended(self, record: TrialRecord) -> None:
        """Deletes the checkpoints that the end of this trial, as returned by `judge`, leaves without use."""
        self._update(record)
        stay = self._stay(self._live.values())
        if stay is None:
            return
        before = {(r["trial_id"], p["step"]): r for r in self._live.values() for p in _kept_points(r)}
        gone = sorted(before.keys() - stay)
        # Ledger first: after a crash the next driver repeats a deletion, but could not explain a missing checkpoint.
        if gone:
            self.ledger.append(DROPPED, checkpoints=[{"trial_id": name, "step": step} for name, step in gone])
        for other in {name: before[name, step] for name, step in gone}.values():
            now = mark_dropped(other, [step for name, step in gone if name == other["trial_id"]])
            self._update(now)
            self._remove(now)
        self._remove(record)

    def _update(self, record: TrialRecord) -> None:
        # A trial without a stored checkpoint is forgotten: no checkpoint that was deleted is ever wanted again.
        self._live.pop(record["trial_id"], None)
        if _kept_points(record):
            self._live[record["trial_id"]] = record

    def _stay(self, records: Collection[TrialRecord]) -> set[Key] | None:
        if self.most == "all":
            return None
        compared = [record for record in records if record["kind"] in COMPARED]
        stay = kept((_ended(record, self.weights, self.measure) for record in compared), self.most, self.contenders)
        # The winner's retraining has no score to be dropped by: both its checkpoints stay.
        retrained = (record for record in records if record["kind"] == RETRAIN)
        return stay | {(record["trial_id"], point["step"]) for record in retrained for point in record["checkpoints"]}

    def _remove(self, record: TrialRecord) -> None:
        # By what stays, so that checkpoints of an earlier attempt, which no record names, go too.
        self.store.keep_checkpoints(record["trial_id"], {point["step"] for point in _kept_points(record)})


def _ended(record: TrialRecord, weights: Mapping[str, float], measure: Measure) -> Ended:
    return Ended(
        trial_id=record["trial_id"],
        setting=record["replicate_of"] or "" if record["kind"] == "replicate" else record["trial_id"],
        competes=record["state"] == "complete",
        objectives=measure.by_step(record, weights),
    )


def _kept_points(record: TrialRecord) -> list[CheckpointRecord]:
    return [point for point in record["checkpoints"] if point.get("kept", True)]
