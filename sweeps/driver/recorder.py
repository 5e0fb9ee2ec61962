"""Records ended trials in the ledger and in `trials.jsonl`, on a thread of the driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from typing import Any, cast

from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.driver.context import Sweep
from sweeps.lanes.lanes import Lanes
from sweeps.ledger.history import PAUSED, trial_lines, write_trials
from sweeps.ledger.ledger import append_line
from sweeps.ledger.trial_record import State, TrialRecord
from trainables.diagnostics.finding import Finding
from trainables.lane.messages import EndedJob, JobEnd
from trainables.lane.trial_parts import trial_id_of
from trainables.redaction import redact_all
from trainables.storage.layout import TRIALS_FILE

POLL_SECONDS = 2.0


class Recorder(threading.Thread):
    """Follows the dispatcher's ended jobs until `finish`. All other parts of the driver learn of ends here.

    Attributes:
        records: Trials that have ended, by id.
        paused: Records so far of search trials that have paused and not ended, of earlier starts too, by id.
        ends: Ends of all other jobs, by id.
    """

    def __init__(self, sweep: Sweep, lanes: Lanes, cleaner: CheckpointCleaner) -> None:
        super().__init__(daemon=True, name="recorder")
        self.sweep, self.lanes = sweep, lanes
        self.cleaner = cleaner
        self.records: dict[str, TrialRecord] = {}
        self.paused = dict(sweep.past.paused)
        self.ends: dict[str, JobEnd] = {}
        self.failure: BaseException | None = None
        self._done: set[str] = set()
        self._born, self._count = 0, 0
        self._finishing = threading.Event()
        self._writing, self._collecting, self._ending = threading.Lock(), threading.Lock(), threading.Lock()
        self._news = threading.Condition()

    def run(self) -> None:
        try:
            while not self._finishing.is_set():
                self.collect(POLL_SECONDS)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the driver's thread, by `check`
            self.failure = error

    def check(self) -> None:
        """Raises an error of the recorder's thread, such as a full disk, in the caller's."""
        if self.failure:
            raise self.failure

    def wait_for(self, job_ids: Collection[str], wait_seconds: float) -> bool:
        """Waits until all these jobs have ended and are recorded; False if they have not when the time is up."""
        with self._news:
            return self._news.wait_for(lambda: self._done.issuperset(job_ids), wait_seconds)

    def finish(self) -> None:
        """Records what has ended by now and ends the thread."""
        self._finishing.set()
        self.join()
        self.check()
        self.collect()
        # Lines were appended with the checkpoints kept at that time; now each says which are kept at the end.
        write_trials(self.sweep.store.folder, trial_lines(self.sweep.ledger.read()[0]))

    def collect(self, wait_seconds: float = 0.0) -> None:
        """Records what has ended since the last call, or waits up to so long for something to end."""
        with self._collecting:  # the search collects from the driver's thread, too
            answer = self.lanes.call("ended_since", self._born, self._count, wait_seconds)
            self._count = len(answer["ended"]) + (self._count if answer["born"] == self._born else 0)
            self._born = answer["born"]
            for job in answer["ended"]:
                # A restarted dispatcher may have done a job again.
                if job["job_id"] not in self._done:
                    self._take(job)

    def stop_paused(self, trial_id: str, predicted: float | None, finding: Finding) -> None:
        """Ends a paused trial where it paused, as pruned.

        Args:
            trial_id: The trial.
            predicted: The final objective that it would have reached, nats a token; None if unknown.
            finding: Why it does not go on.
        """
        record = self.paused[trial_id]
        self._end({**record, "state": "pruned", "predicted": predicted, "findings": [*record["findings"], finding]})

    def _take(self, job: EndedJob) -> None:
        self.lanes.over(job)
        # A restarted dispatcher may not know a job's work when its lane reports the end. A trial's end has its spec.
        if "spec" in job["end"] or (job["work"] and job["work"]["do"] == "trial"):
            self._record(job)
        else:
            self.ends[job["job_id"]] = job["end"]
        with self._news:
            self._done.add(job["job_id"])
            self._news.notify_all()

    def _record(self, job: EndedJob) -> None:
        trial_id, stopped = trial_id_of(job["job_id"]), self.sweep.stopped
        earlier = self.paused.get(trial_id)
        record: TrialRecord = redact_all({**trial_record(job, earlier), "predicted": stopped.predictions.get(trial_id)})
        if record["state"] == "pruned" and trial_id in stopped.findings:
            record["findings"] = [*record["findings"], stopped.findings[trial_id]]
        if record["state"] == "interrupted":  # not an end: a resumed sweep trains the trial again
            self.sweep.ledger.append("trial_interrupted", trial_id=trial_id)
        elif record["state"] == "paused":
            self.paused[trial_id] = record
            self.sweep.ledger.append(PAUSED, trial=record, device_hours=self.sweep.budget.spent_hours())
            self.sweep.store.publish_top_files()
        else:
            self._end(record)

    def _end(self, record: TrialRecord) -> None:
        # The search ends paused trials from its own thread. `_collecting` is no lock for that: the recorder's thread
        # holds it while it waits for news.
        with self._ending:
            self._end_one(record)

    def _end_one(self, record: TrialRecord) -> None:
        trial_id = record["trial_id"]
        attempt = 1 + self.sweep.past.failed.get(trial_id, 0)
        record = self.cleaner.judge({**record, "attempt": attempt})
        self.sweep.store.fetch_trial(trial_id)
        self.sweep.ledger.append("trial_ended", trial=record, device_hours=self.sweep.budget.spent_hours())
        line = json.dumps(record, ensure_ascii=False) + "\n"
        # Not durable: every start rewrites the file from the ledger.
        path = self.sweep.store.folder / TRIALS_FILE
        append_line(path, line, self._writing, f"trials.jsonl {trial_id}", durable=False)
        self.records[trial_id] = record
        self.paused.pop(trial_id, None)
        self.cleaner.ended(record)
        # Only now: until the ledger has the end, another attempt may have to resume from the state.
        self.sweep.store.drop_state(trial_id)
        self.sweep.store.publish_top_files()


def trial_record(job: EndedJob, paused: TrialRecord | None = None) -> TrialRecord:
    """Builds a trial's record, without `predicted`, from its job's end; `paused` is that of its first part, if any."""
    end, before = job["end"], paused or {"attempts": 1, "preempted": 0}
    spec: dict[str, Any] = end["spec"] if "spec" in end else job["work"]["spec"]  # type: ignore[index]  # see `_take`
    return {
        "trial_id": spec["trial_id"],
        "state": cast(State, end["state"]),  # a lane's own "stopped" and "preempted" end at the dispatcher
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
        "checkpoints": [
            {"step": c["step"], "path": c["path"], "areas": c["areas"]} for c in end.get("checkpoints", [])
        ],
        "findings": end.get("findings", []),
        "cost": end.get("cost"),
        "attempts": before["attempts"] - 1 + job["attempt"],
        "preempted": before["preempted"] + job.get("preempted", 0),
        "error": end.get("error"),
    }
