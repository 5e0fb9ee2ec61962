"""A sweep on a cluster whose nodes join, are drained and go: lanes follow, and no step is lost or done twice.

The trial that is handed on has paused before: its first quarter was trained on another node.
"""

import json
import time

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from sweeps.lanes import cluster
from tests.integration.cluster.test_lanes import end_of, start, submit, wait_for
from tests.integration.conftest import random_llama
from trainables.lane.trial_parts import rest_id, trial_id_of

TRIALS, STEPS, QUARTER = [f"t{number:04d}" for number in range(1, 41)], 200, 50
PAUSED = TRIALS[:4]  # the second node comes before all of them have gone on
PARAMS = {"peak_lr": 1e-3, "warmup_fraction": 0.1, "decay_floor": 1e-4}


@pytest.fixture
def nodes():
    """A head with one CPU; the test adds others."""
    many = Cluster(initialize_head=False)
    many.add_node(num_cpus=1, include_dashboard=True, dashboard_port=0, wait=False)
    many._wait_for_node(many.head_node, 180)
    with cluster.connected(many.address):
        yield many
    many.shutdown()


@pytest.fixture
def slow_model(tmp_path):
    return random_llama(tmp_path / "model", 256, 512, 4)


def drain(node, seconds):
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = client.drain_node(node.node_id, reason, "spot", int(1000 * (time.time() + seconds)))
    assert accepted, why


def under_way(running, lane):
    """The job that a lane has trained ten steps of."""
    jobs = running.status()["jobs"].items()
    began = {name: QUARTER if trial_id_of(name) != name else 0 for name, _ in jobs}
    return next(
        (name for name, job in jobs if job["lane"] == lane and began[name] + 10 <= job.get("step", 0) < STEPS - 20),
        None,
    )


def curve(config, name):
    lines = (config.folder / "trials" / name / "curve.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_node_that_joins_gets_a_lane_and_one_that_is_drained_hands_its_trial_on(nodes, tmp_path, slow_model):
    setting = [f"model.name={slow_model}", "data.limit=400", "training.batch_size=2"]
    setting += ["training.checkpoints_at=[0.25,0.5,1.0]", "heldout.answers_at=[]"]
    specs = {name: {"trial_id": name, "seed": number, "params": PARAMS} for number, name in enumerate(TRIALS)}
    config, lanes_up = start(tmp_path, *setting, grows=True)
    with lanes_up as running:
        for name in PAUSED:
            submit(running, specs[name], pause_at=0.25)
        for name in PAUSED:
            assert end_of(running, name, 600)["state"] == "paused"
        for name in TRIALS:
            submit(running, specs[name], job_id=rest_id(name) if name in PAUSED else None)
        wait_for(lambda: under_way(running, "lane-0"), 300)
        assert running.up == 1

        second = nodes.add_node(num_cpus=1, wait=False)
        nodes._wait_for_node(second, 180)
        moved = wait_for(lambda: under_way(running, "lane-1"), 300)
        name = trial_id_of(moved)
        assert running.up == 2
        assert name in PAUSED

        drain(second, 60)
        wait_for(lambda: running.status()["jobs"][moved]["attempt"] == 2 or None, 60)
        nodes.remove_node(second)
        for other in {*TRIALS, *map(rest_id, PAUSED)} - {moved}:  # they have done their part
            running.call("cancel", other, "pruned")
        end = end_of(running, moved, 600)
        running.check(running.status())
        ended = {job["job_id"]: job for job in running.call("ended_since", 0, 0, 0.0)["ended"]}
    assert (end["state"], end["steps"], end["samples_seen"]) == ("complete", STEPS, 400)
    assert ended[moved]["preempted"] == 1
    assert end["went_on_from_step"] >= QUARTER + 10
    handed_on = curve(config, name)
    assert [line["step"] for line in handed_on] == list(range(1, STEPS + 1))

    config, lanes_up = start(tmp_path / "undisturbed", *setting)
    with lanes_up as running:
        submit(running, specs[name])
        assert end_of(running, name, 600)["state"] == "complete"
    assert curve(config, name) == handed_on
