"""A trial's Tune actor comes and goes; the trial stays what the dispatcher knows of it."""

import asyncio
from types import SimpleNamespace

import pytest
import ray

from sweeps.lanes.dispatcher import Dispatcher
from sweeps.search.tune_trial import SweepTrial

CONFIG = {"lanes": "dispatcher", "namespace": "sweeps", "work": {"do": "trial"}, "pause_at": None}
CONFIG |= {"spec": {"trial_id": "t0002"}, "job_id": "t0002"}


@pytest.fixture
def dispatcher(monkeypatch):
    """A dispatcher that answers without Ray."""
    dispatcher = Dispatcher(max_failures=1)

    class Handle:
        def __getattr__(self, method):
            return SimpleNamespace(remote=lambda *given: asyncio.run(getattr(dispatcher, method)(*given)))

    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: Handle())
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    return dispatcher


def test_an_actor_that_another_has_replaced_ends_without_its_trial_which_a_later_one_finds_under_way(dispatcher):
    """Tune removes the actor that it was starting for a trial when one that has become free takes the trial over."""
    started = SweepTrial(config=CONFIG)
    free = SweepTrial(config={**CONFIG, "spec": {"trial_id": "t0001"}, "job_id": "t0001"})
    assert free.reset(CONFIG)
    started.stop()
    assert dispatcher.queue.jobs["t0002"].state == "queued"
    free.stop()
    SweepTrial(config=CONFIG)
    assert dispatcher.queue.jobs.keys() == {"t0001", "t0002"}
    assert dispatcher.queue.jobs["t0002"].cancelled is None
