"""A sweep that holds its share of a cluster's lanes: what it asks for, and which lanes it gives back."""

import threading

import pytest

from sweeps.lanes import lanes as module
from sweeps.lanes.cluster import LanePlan
from sweeps.lanes.lane_share import LaneNeeds, LaneShare, lanes_needed
from sweeps.lanes.lanes import Lanes

NODES = [{"CPU": 1}] * 4


def job(state, lane=None):
    return {"job_id": f"{state}-{lane}", "state": state, "lane": lane}


@pytest.mark.parametrize(
    ("jobs", "to_come", "slots", "needed"),
    [
        ([], 0, 1, 0),
        ([job("ended", "a")] * 3, 2, 1, 2),
        ([job("running", "a"), job("queued")], 3, 1, 5),
        ([job("running", "a"), job("queued")], 3, 4, 2),
        # The tail: two lanes have a trial each, though one could hold both.
        ([job("running", "a"), job("running", "b")], 0, 4, 2),
        ([job("running", "a"), job("running", "a")], 0, 4, 1),
    ],
)
def test_a_lane_is_needed_for_every_slot_of_work_that_is_left(jobs, to_come, slots, needed):
    assert lanes_needed(jobs, to_come, slots) == needed


def test_both_sides_read_what_the_other_wrote_and_keep_the_last_where_they_cannot(tmp_path):
    service, sweep = (LaneShare(tmp_path / "first-1") for _ in range(2))
    assert (sweep.target, service.needs) == (1, None)
    service.allow(3)
    sweep.tell(LaneNeeds(room=4, needed=2))
    assert (sweep.target, service.needs) == (3, LaneNeeds(4, 2))
    (tmp_path / "first-1.target.json").write_text("half a li")
    (tmp_path / "first-1.needs.json").write_text('{"room": null}')
    assert (sweep.target, service.needs) == (3, None)


@pytest.fixture
def held(tmp_path, monkeypatch):
    """Lanes that have a share, whose runs are only threads that wait; `up` are those that have come up."""
    ended = threading.Event()
    monkeypatch.setattr(module, "alive_nodes", lambda: NODES)
    monkeypatch.setattr(module, "_serve", lambda *_: ended.wait(60))
    calls = []
    monkeypatch.setattr(Lanes, "call", lambda self, *call: calls.append(call))
    share = LaneShare(tmp_path / "stem")
    lanes = Lanes(None, "dispatcher", None, LanePlan(4, 1, False, 1), None, grows=True, share=share)
    lanes.calls = calls
    yield lanes
    ended.set()


def follow(lanes, up=(), busy=()):
    status = {"idle_incarnations": 0}
    lanes._status["lanes"] = {name: {**status, "up": True} for name in up}
    lanes._status["jobs"] = {name: job("running", name) for name in busy}
    lanes._hold(4, 4)
    return [thread.name for thread in lanes.threads if thread.name not in lanes._released]


def test_a_sweep_grows_and_shrinks_with_its_share_and_gives_back_first_what_does_not_train(held):
    held.share.allow(3)
    assert follow(held) == ["lane-0", "lane-1", "lane-2"]
    held.share.allow(2)
    assert follow(held, up=["lane-0", "lane-1"], busy=["lane-0"]) == ["lane-0", "lane-1"]  # lane-2 has not come up
    held.share.allow(1)
    assert follow(held, up=["lane-0", "lane-1"], busy=["lane-1"]) == ["lane-1"]
    assert held.calls[-1] == ("release", ["lane-0", "lane-2"])  # until they have ended
    held.share.allow(4)
    assert follow(held, up=["lane-1"]) == ["lane-1", "lane-3", "lane-4", "lane-5"]
    assert held.share.needs == LaneNeeds(room=4, needed=4)


def test_a_lane_that_waits_for_its_node_is_waited_for_before_another_starts(held):
    held.share.allow(1)
    assert follow(held) == ["lane-0"]
    held.share.allow(2)
    assert follow(held) == ["lane-0"]
    assert follow(held, up=["lane-0"]) == ["lane-0", "lane-1"]


def test_the_tail_of_a_sweep_asks_for_the_lanes_that_it_needs(held):
    held.share.allow(4)
    follow(held)
    held.needed = 1
    assert len(follow(held)) == 4  # the service says what it gives back
    assert held.share.needs == LaneNeeds(room=4, needed=1)


def test_without_a_share_nothing_is_given_back(held):
    held.share = None
    assert len(follow(held)) == 4
    held.needed = 1
    assert len(follow(held, up=[f"lane-{n}" for n in range(4)])) == 4
    assert held.calls == []
