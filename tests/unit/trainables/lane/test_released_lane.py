"""A lane that its sweep gives back: the real dispatcher and its client, without Ray between them."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

from sweeps.lanes.dispatcher import Dispatcher
from tests.unit.trainables.lane.helpers import curve, lane_state_in
from tests.unit.trainables.training.helpers import trial
from trainables.lane import dispatcher_client
from trainables.lane.dispatcher_client import DispatcherClient, JobSource
from trainables.lane.worker import serve


class Actor:
    """The dispatcher in an event loop of its own; `method.remote(…)` is a future, as of Ray."""

    def __init__(self):
        self.loop, self.dispatcher = asyncio.new_event_loop(), Dispatcher(max_failures=0)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, method):
        call = getattr(self.dispatcher, method)
        return SimpleNamespace(remote=lambda *args: asyncio.run_coroutine_threadsafe(call(*args), self.loop))


@pytest.fixture
def actor(monkeypatch):
    context = SimpleNamespace(get_world_size=lambda: 1)
    plain = SimpleNamespace(
        get=lambda future: future.result(30),
        wait=lambda futures, timeout: ([one for one in futures if one.done()], []),
        train=SimpleNamespace(get_context=lambda: context),
    )
    monkeypatch.setattr(dispatcher_client, "ray", plain)
    found = Actor()
    yield found
    found.stop.remote().result(30)  # ends the threads that watch


def work(name, slots, seed):
    return {"do": "trial", "spec": trial(seed=seed).model_dump() | {"trial_id": name}, "baseline": {}, "slots": slots}


def run_lane(actor, lane_state, lane):
    """Serves as `lane_main` does, until the dispatcher says stop or no job is left; the jobs it was given."""
    client = clients[lane] = DispatcherClient(actor, lane, actor.join.remote(lane, lane).result(30))
    jobs, taken = JobSource(actor, client), []
    while len(actor.dispatcher.queue.ended) < len(actor.dispatcher.queue.jobs) and (lease := jobs.next()):
        taken.append(lease.job_id)
        serve(lane_state, jobs, lease)
    client.leave()
    return taken


clients = {}


def wait_until_told(lane="first"):
    """Until all leases of a lane have heard from the dispatcher, on threads of their own."""
    deadline = time.monotonic() + 60
    while not all(lease.wants_stop() for lease in clients[lane].leases):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("slots", [1, 2])
def test_its_trials_go_on_in_another_lane_and_no_step_is_lost(actor, tiny, samples, tmp_path, slots, monkeypatch):
    data = samples(22)
    alone, shared = (lane_state_in(tmp_path / name, tiny, data, checkpoints_at=[0.3, 1.0]) for name in ("a", "b"))
    jobs = {f"t{number}": work(f"t{number}", slots, 7 + number) for number in range(2)}

    def submit():
        for name, its in jobs.items():
            actor.submit.remote(name, its).result(30)

    submit()
    run_lane(actor, alone, "alone")
    expected = {name: curve(alone, name) for name in jobs}
    actor.dispatcher = Dispatcher(max_failures=0)
    submit()
    step, done = shared.loop.step, []

    def released_after_three():
        ended = step()
        done.append(len(done))
        if len(done) == 3:
            actor.release.remote(["first"]).result(30)
            wait_until_told()
        return ended

    monkeypatch.setattr(shared.loop, "step", released_after_three)
    taken = run_lane(actor, shared, "first")
    assert taken == ["t0"]
    queue = actor.dispatcher.queue
    assert [(job.state, job.preempted, job.errors) for job in queue.jobs.values()] == [
        ("queued", 1, []), ("queued", int(slots > 1), [])]  # fmt: skip
    monkeypatch.setattr(shared.loop, "step", step)
    run_lane(actor, shared, "second")
    assert [job.end["state"] for job in queue.jobs.values()] == ["complete"] * 2
    assert queue.jobs["t0"].end["went_on_from_step"] == 3
    for name in jobs:
        assert curve(shared, name) == expected[name]
