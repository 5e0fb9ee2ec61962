"""What the driver and the Tune trials do when the dispatcher has been restarted between two of their calls."""

import asyncio

import pytest

from sweeps.lanes.dispatcher import Dispatcher
from sweeps.lanes.lanes import Lanes
from sweeps.search.tune_trial import SweepTrial

WORK = {"do": "base_losses"}


class Actor:
    """A dispatcher that can be killed; the next call finds another."""

    def __init__(self):
        self.dispatcher = Dispatcher(max_failures=1)

    def kill(self):
        self.dispatcher = Dispatcher(max_failures=1, restarted=True)
        self.dispatcher._no_lease_before = 0.0

    def call(self, method, *args):
        return asyncio.run(getattr(self.dispatcher, method)(*args))


@pytest.fixture
def lanes(monkeypatch):
    actor = Actor()
    lanes = Lanes(actor, "dispatcher", None, None, None, grows=False)
    monkeypatch.setattr(Lanes, "call", lambda self, *call: self.dispatcher.call(*call))
    lanes.status()
    return lanes


def leased(lanes):
    return lanes.call("take", "a", 1, len(lanes.dispatcher.dispatcher.queue.ended), 0.0).get("job_id")


def test_what_the_driver_has_submitted_cancelled_and_seen_end_is_known_again(lanes):
    lanes.submit("first", WORK)
    lanes.submit("second", WORK)
    lanes.over({"job_id": "first", "work": WORK, "attempt": 1, "end": {"state": "complete"}})
    lanes.over({"job_id": "t0001", "work": {"do": "trial"}, "attempt": 1, "end": {"state": "complete"}})
    lanes.cancel("t0002", "pruned")
    lanes.dispatcher.kill()
    for trial in ("t0001", "t0002"):
        lanes.call("submit", trial, {"do": "trial"})  # as their Tune trials do
    assert leased(lanes) is None
    lanes.status()
    assert leased(lanes) == "second"
    jobs = lanes.status()["jobs"]
    assert {job: jobs[job]["end"]["state"] for job in ("first", "t0001", "t0002")} == {
        "first": "complete", "t0001": "complete", "t0002": "pruned",
    }  # fmt: skip


def test_nothing_is_said_twice_to_a_dispatcher_that_lives(lanes):
    lanes.submit("first", WORK)
    lanes.call("cancel", "first", "interrupted")
    lanes.status()
    assert lanes.status()["jobs"]["first"]["end"]["state"] == "interrupted"


@pytest.mark.parametrize(
    ("end", "objective", "step"),
    [
        ({"state": "complete", "checkpoints": [{"step": 4, "objective": 3.0}, {"step": 8, "objective": 1.0}]}, 1.0, 8),
        ({"state": "interrupted", "steps": 0}, 3.0, 4),
    ],
)
def test_the_end_of_a_trial_has_its_own_last_score_whatever_was_relayed_before(end, objective, step):
    trial = SweepTrial.__new__(SweepTrial)
    trial.last = {"objective": 3.0, "step": 4, "epoch_percent": 50}
    last = trial._last_point(end)
    assert (last["objective"], last["step"], last["epoch_percent"]) == (objective, step, 50)
