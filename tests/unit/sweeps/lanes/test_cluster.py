import os

import pytest
import ray

from sweeps.config.sections import ResourcesConfig
from sweeps.lanes.cluster import LanePlan, connected, divide, room_for, stay_within_nodes, waiting_words
from trainables.errors import UserError

LAPTOP = [{"CPU": 2.0}]
BOX = [{"CPU": 64.0, "GPU": 8.0}]
TWO_NODES = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 4.0}]
UNEQUAL = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("nodes", "asked", "plan"),
    [
        (LAPTOP, {}, LanePlan(1, 1, False, 2)),
        (LAPTOP, {"lanes": 2, "cpus_per_worker": 1}, LanePlan(2, 1, False, 1)),
        (LAPTOP, {"lanes": 2}, LanePlan(2, 1, False, 1)),
        (LAPTOP, {"workers_per_lane": 2}, LanePlan(1, 2, False, 1)),
        (LAPTOP * 3, {}, LanePlan(3, 1, False, 2)),
        (BOX, {}, LanePlan(8, 1, True, 8)),
        (BOX, {"workers_per_lane": 4}, LanePlan(2, 4, True, 8)),
        (BOX, {"lanes": 3, "cpus_per_worker": 2}, LanePlan(3, 1, True, 2)),
        (TWO_NODES, {"workers_per_lane": 8}, LanePlan(1, 8, True, 4)),
        (TWO_NODES, {"workers_per_lane": 3}, LanePlan(2, 3, True, 4)),
        (UNEQUAL, {"workers_per_lane": 3}, LanePlan(1, 3, True, 4)),  # 6 GPUs, but no second lane within a node
        (UNEQUAL, {"workers_per_lane": 3, "lanes": 2}, LanePlan(2, 3, True, 4)),  # asked for: it stretches over both
    ],
)
def test_divides_the_cluster(nodes, asked, plan):
    assert divide(nodes, ResourcesConfig(**asked)) == plan


@pytest.mark.parametrize(
    ("nodes", "asked", "may_grow"),
    [
        (LAPTOP, {"lanes": 3}, False),
        (LAPTOP, {"workers_per_lane": 3}, False),
        (LAPTOP, {"cpus_per_worker": 4}, False),
        (BOX, {"lanes": 9}, False),
        (BOX, {"workers_per_lane": 16}, False),
        (BOX, {"workers_per_lane": 16}, True),
    ],
)
def test_refuses_more_than_there_is(nodes, asked, may_grow):
    with pytest.raises(UserError, match="must fit the cluster"):
        divide(nodes, ResourcesConfig(**asked), may_grow=may_grow)


def test_lanes_may_be_asked_for_that_an_autoscaler_has_to_make_room_for():
    assert divide(BOX, ResourcesConfig(lanes=16), may_grow=True).lanes == 16


@pytest.mark.parametrize(
    ("nodes", "plan", "lanes"),
    [
        (LAPTOP * 3, LanePlan(1, 1, False, 2), 3),
        ([{"CPU": 0.0}, *LAPTOP], LanePlan(1, 1, False, 2), 1),
        (LAPTOP * 3, LanePlan(1, 2, False, 2), 1),  # two workers a lane: the third node waits for a fourth
        ([{"CPU": 8.0}, *BOX], LanePlan(8, 1, True, 8), 8),
        (UNEQUAL, LanePlan(1, 3, True, 4), 1),
        (TWO_NODES, LanePlan(1, 1, True, 8), 4),  # 16 CPUs a node hold two workers of 8
        ([], LanePlan(1, 1, True, 8), 0),
    ],
)
def test_counts_the_lanes_that_nodes_hold(nodes, plan, lanes):
    assert room_for(nodes, plan) == lanes


@pytest.mark.parametrize(
    ("nodes", "plan", "fits"),
    [
        (UNEQUAL, LanePlan(1, 4, True, 4), True),
        (UNEQUAL, LanePlan(1, 4, True, 5), False),
        (UNEQUAL, LanePlan(1, 6, True, 4), False),
        (UNEQUAL, LanePlan(1, 3, True, 4), True),
        (UNEQUAL, LanePlan(2, 3, True, 4), False),
        (LAPTOP, LanePlan(1, 2, False, 1), True),
        ([], LanePlan(1, 1, False, 1), False),
    ],
)
def test_lanes_stay_within_nodes_where_these_hold_all(nodes, plan, fits):
    assert stay_within_nodes(nodes, plan) == fits


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Exception("The current node timed out during startup. This could happen because some of the raylet failed"),
            UserError("Ray", "must be up within its 30 s", "a machine too busy for it", "run it again later"),
        ),
        (RuntimeError("something else"), RuntimeError("something else")),
    ],
)
def test_a_machine_too_busy_for_ray_is_one_line_and_other_errors_stay_what_they_are(error, expected, monkeypatch):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # put back afterwards
    with pytest.raises(type(expected)) as raised, connected(None):
        pass
    assert str(raised.value) == str(expected)


@pytest.mark.parametrize(
    ("plan", "free", "pending", "words"),
    [
        (LanePlan(1, 1, False, 2), {"CPU": 0.0}, True, "waiting for 2 CPUs, 0 free: training starts"),
        (LanePlan(1, 2, True, 4), {"CPU": 9.0, "GPU": 1.0}, True, "waiting for 2 GPUs, 1 free and 8 CPUs, 9 free: t"),
        (LanePlan(1, 1, True, 1), {}, True, "waiting for 1 GPU, 0 free and 1 CPU, 0 free: training starts"),
        (LanePlan(1, 1, False, 2), {"CPU": 0.0}, False, "no worker is up yet: one is starting"),
    ],
)
def test_what_a_waiting_sweep_says(monkeypatch, plan, free, pending, words):
    states = {"a": {"state": "CREATED"}} | ({"b": {"state": "PENDING"}} if pending else {})
    monkeypatch.setattr("ray.util.placement_group_table", lambda: states)
    monkeypatch.setattr("ray.available_resources", lambda: free)
    assert waiting_words(plan).startswith(words)
