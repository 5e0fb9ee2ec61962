"""What the recorder adds to a trial's end: what Optuna is told of it, and why it was stopped."""

import json
from types import SimpleNamespace

import pytest

from sweeps.driver.budget import Budget
from sweeps.driver.checkpoint_cleanup import CheckpointCleaner
from sweeps.driver.recorder import Recorder
from sweeps.folder.sweep_store import SweepStore
from sweeps.ledger.history import Past
from sweeps.ledger.ledger import Ledger
from sweeps.ledger.trial_record import StoppedTrials
from trainables.config.trial_spec import TrialSpec
from trainables.storage.working_copy import WorkingCopy

FINDING = {"rule": "dominated", "severity": "warning", "step": 4, "evidence": {"gap": 1.5}, "advice": "lower it"}
OWN = {**FINDING, "rule": "warmup_spike"}


def job(name, state, findings=()):
    spec = TrialSpec(trial_id=name, seed=0, params={"peak_lr": 9e-3}).model_dump()
    end = {"state": state, "steps": 4, "findings": list(findings), "cost": {}}
    return {"job_id": name, "work": {"do": "trial", "spec": spec}, "attempt": 1, "end": end}


class Lanes:
    """Jobs that have ended, in order; a dispatcher that was restarted has others, from the first on."""

    def __init__(self, *jobs):
        self.born, self.jobs, self.known = 1, list(jobs), []

    def call(self, method, born, count, _wait):
        assert method == "ended_since"
        return {"born": self.born, "ended": self.jobs[count if born == self.born else 0 :]}

    def over(self, job):
        self.known.append(job["job_id"])


def recorder_of(lanes, folder, stopped=StoppedTrials(), past=Past()):  # noqa: B008 - nothing is added to them
    store, ledger, budget = SweepStore(WorkingCopy(folder)), Ledger(folder), Budget(1, None, before_hours=0.5)
    sweep = SimpleNamespace(store=store, ledger=ledger, budget=budget, stopped=stopped, past=past)
    return Recorder(sweep, lanes, CheckpointCleaner(store, ledger, 5, {}))


@pytest.fixture
def record(tmp_path):
    def write(*jobs):
        stopped = StoppedTrials({"t1": 1.25}, {"t1": FINDING, "t2": FINDING})
        recorder_of(Lanes(*jobs), tmp_path, stopped).collect()
        lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
        assert [event["trial"] for event in Ledger(tmp_path).read()[0]] == lines
        return lines

    return write


def test_a_stopped_trials_line_says_why_and_a_trial_that_was_done_before_the_stop_was_not_stopped(record):
    line, complete, other = record(job("t1", "pruned", [OWN]), job("t2", "complete"), job("t3", "pruned"))
    assert [finding["rule"] for finding in line["findings"]] == ["warmup_spike", "dominated"]
    assert line["predicted"] == 1.25
    assert (complete["findings"], other["findings"]) == ([], [])
    assert other["predicted"] is None


def test_each_end_is_recorded_once_also_when_the_dispatcher_is_restarted(tmp_path):
    lanes = Lanes(job("t1", "complete"))
    recorder = recorder_of(lanes, tmp_path)
    recorder.collect()
    lanes.jobs.append(job("t2", "complete"))
    recorder.collect()
    lanes.born, lanes.jobs = 2, [job("t2", "complete"), job("t3", "complete")]
    recorder.collect()
    recorder.collect()
    assert recorder.wait_for(["t1", "t2", "t3"], 0)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial_id"] for line in lines] == ["t1", "t2", "t3"]


def test_other_jobs_ends_are_kept_for_those_who_wait_and_are_no_trials(tmp_path):
    slots = {"job_id": "slots", "work": {"do": "slots"}, "attempt": 1, "end": {"state": "complete", "slots": 2}}
    recorder = recorder_of(Lanes(slots), tmp_path)
    assert not recorder.wait_for(["slots"], 0)
    recorder.collect()
    assert recorder.wait_for(["slots"], 0)
    assert (recorder.ends, recorder.records) == ({"slots": slots["end"]}, {})


def test_a_trial_that_failed_in_an_earlier_start_is_the_next_attempt(tmp_path):
    recorder = recorder_of(Lanes(job("t1", "complete"), job("t2", "failed")), tmp_path, past=Past(failed={"t1": 2}))
    recorder.collect()
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [(line["trial_id"], line["attempt"]) for line in lines] == [("t1", 3), ("t2", 1)]
