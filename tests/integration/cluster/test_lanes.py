"""Lanes on local Ray, without Tune: cancelling, a lost worker, several workers."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from sweeps.config.sweep_config import load_config
from sweeps.driver.context import lane_settings
from sweeps.folder.sweep_folder import claim_folder, draft_folder
from sweeps.folder.sweep_store import SweepStore
from sweeps.lanes import cluster, lanes
from sweeps.plan.plan import make_plan
from tests.integration.conftest import random_llama
from trainables.lane.trial_parts import rest_id
from trainables.storage.working_copy import WorkingCopy

SPEC = {"trial_id": "t0001", "seed": 3, "params": {"peak_lr": 1e-3, "warmup_fraction": 0.1, "decay_floor": 1e-4}}


@pytest.fixture(scope="module")
def ray_cluster():
    with cluster.connected(None):
        yield


@pytest.fixture
def slow_model(tmp_path):
    return random_llama(tmp_path / "model", 384, 1024, 6, 6)


def start(tmp_path, *overrides, grows=False):
    config = load_config("conf/smoke.yaml", [f"storage_path={tmp_path}", "wandb.mode=disabled", *overrides])
    with draft_folder(config) as draft:
        plan = make_plan(config, draft)
        claim_folder(draft, SweepStore(WorkingCopy(config.folder)))
    lane_plan = cluster.plan_lanes(config.resources)
    settings = lane_settings(config, plan, lane_plan.cpus)
    return config, lanes.running(lane_plan, settings, config.resources.max_failures, grows=grows)


def submit(running, spec=SPEC, job_id=None, pause_at=None):
    work = {"do": "trial", "spec": spec, "baseline": {}, "pause_at": pause_at}
    running.call("submit", job_id or spec["trial_id"], work)


def wait_for(condition, seconds=150):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := condition()) is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


def end_of(running, job="t0001", seconds=150):
    return wait_for(lambda: running.call("poll", job, 0, 5.0)["end"], seconds)


def step_of(running, job="t0001"):
    return running.status()["jobs"][job].get("step")


@pytest.mark.usefixtures("ray_cluster")
def test_a_cancelled_trial_trains_not_one_step_more_than_the_one_in_flight(tmp_path, slow_model):
    config, lanes_up = start(tmp_path, f"model.name={slow_model}", "training.batch_size=4")
    with lanes_up as running:
        submit(running)
        step = wait_for(lambda: step_of(running))
        running.call("cancel", "t0001", "pruned")
        end = end_of(running)
    assert end["state"] == "pruned"
    assert end["steps"] <= step + 1
    curve = (config.folder / "trials" / "t0001" / "curve.jsonl").read_text().splitlines()
    assert len(curve) == end["steps"] < end["steps_planned"]


@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_whose_worker_is_killed_is_trained_again_from_its_start(tmp_path):
    config, lanes_up = start(tmp_path, "data.limit=400", "training.batch_size=2")
    with lanes_up as running:
        submit(running)
        wait_for(lambda: step_of(running))
        kill_a_worker()
        end = end_of(running)
    assert (end["state"], end["steps"], end["samples_seen"]) == ("complete", 200, 400)
    curve = (config.folder / "trials" / "t0001" / "curve.jsonl").read_text().splitlines()
    assert len(curve) == 200


def kill_a_worker():
    worker = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if "ray::RayTrainWorker" in " ".join(process.info["cmdline"] or []) and _is_ours(process)
    )
    worker.send_signal(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_lane_that_is_lost_while_a_paused_trial_goes_on_changes_none_of_its_numbers(tmp_path):
    overrides = ["data.limit=400", "training.batch_size=2", "training.checkpoints_at=[0.25,1.0]"]
    config, lanes_up = start(tmp_path / "paused", *overrides)
    with lanes_up as running:
        submit(running, pause_at=0.25)
        assert (end_of(running)["state"], end_of(running)["steps"]) == ("paused", 50)
        submit(running, job_id=rest_id("t0001"))
        wait_for(lambda: (step_of(running, rest_id("t0001")) or 0) > 60 or None)
        kill_a_worker()
        end = end_of(running, rest_id("t0001"))
    assert (end["state"], end["steps"], end["samples_seen"]) == ("complete", 200, 400)
    assert end["went_on_from_step"] == 50

    whole, lanes_up = start(tmp_path / "whole", *overrides)
    with lanes_up as running:
        submit(running)
        assert end_of(running)["state"] == "complete"
    curves = [_losses(one.folder / "trials" / "t0001" / "curve.jsonl") for one in (config, whole)]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 200


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_give_the_curve_of_one_with_twice_the_batch(tmp_path):
    curves = []
    for name, overrides in {
        "one": ["training.batch_size=4"],
        "two": ["training.batch_size=2", "resources.workers_per_lane=2"],
    }.items():
        config, lanes_up = start(tmp_path / name, "data.limit=22", *overrides)
        with lanes_up as running:
            submit(running)
            assert end_of(running)["state"] == "complete"
        curves.append(_losses(config.folder / "trials" / "t0001" / "curve.jsonl"))
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_lanes_that_cannot_start_end_the_sweep_with_the_cause(tmp_path):
    config, lanes_up = start(tmp_path)
    (config.folder / "cache" / "train.arrow").write_bytes(b"not arrow")
    with lanes_up as running:
        submit(running)
        with pytest.raises(lanes.LanesFailedError, match="lane-0 stopped"):
            wait_for(lambda: running.check(running.status()))


def _is_ours(process):
    """Below this test's own process, not a worker of another Ray on the machine."""
    return any(parent.pid == os.getpid() for parent in process.parents())


def _losses(path: Path):
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]
