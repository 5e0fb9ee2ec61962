"""What the recorder adds to a trial's end: what Optuna is told of it, and why it was stopped."""

import json
from types import SimpleNamespace

import pytest

from sweeps.ledger import Ledger
from sweeps.recorder import Recorder
from trainables.spec import TrialSpec

FINDING = {"rule": "dominated", "severity": "warning", "step": 4, "evidence": {"gap": 1.5}, "advice": "lower it"}
OWN = {**FINDING, "rule": "warmup_spike"}


def job(name, state, findings=()):
    spec = TrialSpec(trial_id=name, seed=0, params={"peak_lr": 9e-3}).model_dump()
    end = {"state": state, "steps": 4, "findings": list(findings), "cost": {}}
    return {"job_id": name, "work": {"do": "trial", "spec": spec}, "attempt": 1, "end": end}


@pytest.fixture
def record(tmp_path):
    def write(*jobs):
        lanes = SimpleNamespace(call=lambda _name, seen, _wait: [one for one in jobs if one["job_id"] not in seen])
        recorder = Recorder(lanes, Ledger(tmp_path), tmp_path, SimpleNamespace(spent_hours=lambda: 0.5))
        recorder.predictions, recorder.findings = {"t1": 1.25}, {"t1": FINDING, "t2": FINDING}
        recorder.collect()
        lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
        assert [event["trial"] for event in Ledger(tmp_path).read()[0]] == lines
        return lines

    return write


def test_a_stopped_trials_line_says_why_beside_what_its_curve_showed(record):
    (line,) = record(job("t1", "pruned", [OWN]))
    assert [finding["rule"] for finding in line["findings"]] == ["warmup_spike", "dominated"]
    assert line["predicted"] == 1.25


def test_a_trial_that_was_done_before_the_stop_reached_it_was_not_stopped(record):
    complete, other = record(job("t2", "complete"), job("t3", "pruned"))
    assert (complete["findings"], other["findings"]) == ([], [])
    assert other["predicted"] is None
