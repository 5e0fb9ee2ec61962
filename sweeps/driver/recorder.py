"""Writes what trials ended with: the ledger and `trials.jsonl`, by one thread of the driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from sweeps.driver.budget import Budget
from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.lanes.lanes import Lanes
from sweeps.ledger.history import ended_trials, write_trials
from sweeps.ledger.ledger import Ledger, append_line
from trainables.diagnostics.finding import Finding
from trainables.redaction import redact_all
from trainables.storage.layout import TRIALS_FILE
from trainables.storage.working_copy import WorkingCopy

POLL_SECONDS = 2.0

Record = dict[str, Any]


class Recorder(threading.Thread):
    """Follows the dispatcher's ended jobs until `finish`.

    Args:
        lanes: Whose jobs.
        ledger: Where events go.
        copy: The sweep's folder; what ended goes to its store, if it lies in one, as soon as it is in the ledger.
        budget: What the sweep has cost by the time that a trial ends goes to the ledger with it.

        cleaner: Drops the checkpoints that a trial's end leaves without use.

    Attributes:
        records: The trials that have ended, by id.
        predictions: Final objectives of trials that were stopped, by id; whoever stops trials fills it.
        findings: Why they were, likewise, where their own findings do not say it.
    """

    def __init__(
        self, lanes: Lanes, ledger: Ledger, copy: WorkingCopy, budget: Budget, cleaner: CheckpointCleaner
    ) -> None:
        super().__init__(daemon=True, name="recorder")
        self.lanes, self.ledger, self.copy, self.budget = lanes, ledger, copy, budget
        self.path, self.cleaner = copy.folder / TRIALS_FILE, cleaner
        self.records: dict[str, Record] = {}
        self.predictions: Mapping[str, float] = {}
        self.findings: Mapping[str, Finding] = {}
        self.failure: BaseException | None = None
        self._seen: set[str] = set()
        self._born, self._count = 0, 0
        self._finishing = threading.Event()
        self._writing, self._collecting = threading.Lock(), threading.Lock()

    def run(self) -> None:
        """Records trials as they end. An error, such as a full disk, is kept for `check`."""
        try:
            while not self._finishing.is_set():
                self.collect(POLL_SECONDS)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the driver's thread, by `check`
            self.failure = error

    def check(self) -> None:
        """Raises here what went wrong on the recorder's thread."""
        if self.failure:
            raise self.failure

    def finish(self) -> None:
        """Records what has ended by now, and ends the thread; `trials.jsonl` then says what is kept."""
        self._finishing.set()
        self.join()
        self.check()
        self.collect()
        write_trials(self.path.parent, ended_trials(self.ledger.read()[0]))

    def collect(self, wait_seconds: float = 0.0) -> None:
        """Records what has ended by now, or ends while it waits."""
        with self._collecting:
            self._collect(wait_seconds)

    def _collect(self, wait_seconds: float) -> None:
        answer = self.lanes.call("ended_since", self._born, self._count, wait_seconds)
        self._count = len(answer["ended"]) + (self._count if answer["born"] == self._born else 0)
        self._born = answer["born"]
        for job in answer["ended"]:
            if job["job_id"] in self._seen:  # a dispatcher that was restarted has had it done again
                continue
            self._seen.add(job["job_id"])
            self.lanes.over(job)
            if job["work"] is None or job["work"]["do"] == "trial":
                self._record(job)

    def _record(self, job: Record) -> None:
        record = redact_all({**trial_record(job), "predicted": self.predictions.get(job["job_id"])})
        if record["state"] == "pruned" and job["job_id"] in self.findings:
            record["findings"] = [*record["findings"], self.findings[job["job_id"]]]
        if record["state"] == "interrupted":
            self.ledger.append("trial_interrupted", trial_id=record["trial_id"])
            return
        record, trial = self.cleaner.judge(record), f"trials/{record['trial_id']}"
        self.copy.fetch(f"{trial}/curve.jsonl", f"{trial}/heldout.jsonl")
        self.ledger.append("trial_ended", trial=record, device_hours=self.budget.spent_hours())
        line = json.dumps(record, ensure_ascii=False) + "\n"
        what = f"trials.jsonl {record['trial_id']}"
        append_line(self.path, line, self._writing, what, durable=False)  # made anew from the ledger at every start
        self.records[record["trial_id"]] = record
        self.cleaner.ended(record)
        # It has ended for good, by the ledger: what it could have gone on from has served.
        self.copy.drop(f"{trial}/state")
        self.copy.push_top()


def trial_record(job: Record) -> Record:
    """The line of `trials.jsonl` for a job that ended.

    Args:
        job: `job_id`, `work`, `attempt`, `preempted` and `end` as the dispatcher keeps them.
    """
    end = job["end"]
    spec = end.get("spec") or job["work"]["spec"]
    return {
        "trial_id": spec["trial_id"],
        "state": end["state"],
        "kind": spec["kind"],
        "replicate_of": spec["replicate_of"],
        "fraction": spec.get("fraction", 1.0),
        "seed": spec["seed"],
        "params": spec["params"],
        "drawn": spec["drawn"],
        "precision": end.get("precision"),
        "steps": end.get("steps", 0),
        "steps_planned": end.get("steps_planned"),
        "samples_seen": end.get("samples_seen", 0),
        "went_on_from_step": end.get("went_on_from_step"),
        "checkpoints": [{k: c[k] for k in ("step", "path", "areas")} for c in end.get("checkpoints", [])],
        "findings": end.get("findings", []),
        "cost": end.get("cost"),
        "attempts": job["attempt"],
        "preempted": job.get("preempted", 0),
        "error": end.get("error"),
    }
