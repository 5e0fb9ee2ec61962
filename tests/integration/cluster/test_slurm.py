"""A sweep on a real Slurm of two nodes on this machine: time limits, two jobs on one node, what ends a job early.

Skipped without Slurm's packages, or root.
"""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.chaos.audit import uninterrupted
from tests.integration.conftest import ROOT
from tests.integration.slurm_nodes import asked, needs_slurm, two_nodes, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400), needs_slurm]
# Every trial to its end, so that the numbers can be held against those of trainings that nothing interrupts.
SMALL = ("wandb.mode=disabled", "search.trial_scheduler=none", "search.sampler=random", "confirm.budget=0")
MINUTES, GRACE = ("--time", "30"), ("--grace", "180")
ONE_NODE = ("--cpus-per-task", "1", *MINUTES, "--sbatch", "nodelist=n1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with two_nodes(tmp_path_factory.mktemp("slurm")) as env:
        yield env


def submit(env, folder, name, *arguments):
    command = [sys.executable, "-m", "sweeps.submit", str(ROOT / "conf" / "smoke.yaml"), f"name={name}"]
    command += [f"storage_path={folder}", *SMALL, "--slurm", *arguments]
    (folder / "conf").is_symlink() or (folder / "conf").symlink_to(ROOT / "conf")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def is_over(env, job):
    return asked(env, "squeue", "-h", "-j", job, "-o", "%T") == ""


def steps(folder, name):
    """How many steps a sweep's trials have made."""
    return sum(len(curve.read_bytes().splitlines()) for curve in (folder / name / "trials").glob("t*/curve.jsonl"))


def check_whole(folder, name, number):
    """All trials are complete, no step is lost or doubled, and all numbers are those of an uninterrupted training."""
    ended = [json.loads(line) for line in (folder / name / "trials.jsonl").read_text().splitlines()]
    assert sorted(trial["trial_id"] for trial in ended) == [f"t{n:04}" for n in range(1, number + 1)]
    assert {trial["state"] for trial in ended} == {"complete"}
    assert list(uninterrupted(folder / name, ended)) == []
    assert not list(folder.glob(f"{name}-*.jsonl")), "the count of allocations goes with the job"


def test_a_sweep_of_three_time_limits_finishes_by_itself(slurm, tmp_path):
    job = submit(slurm, tmp_path, "long", "search.trials=48", "data.limit=400", "--nodes", "2", *MINUTES, *GRACE)
    for restarts in (1, 2):
        runs_into_its_time_limit(slurm, tmp_path, job, restarts)
    wait_until(lambda: is_over(slurm, job), 1200)
    log = (tmp_path / f"long-{job}.log").read_text()
    assert log.count("Interrupted. Results") == 2
    check_whole(tmp_path, "long", 48)


def runs_into_its_time_limit(env, folder, job, restarts):
    before = steps(folder, "long")
    wait_until(lambda: steps(folder, "long") > before, 600)
    # A limit that is set beforehand may end the job before its first step, on a busy machine.
    minutes, _ = asked(env, "squeue", "-h", "-j", job, "-o", "%M").split(":")
    set_limit(env, job, int(minutes) + 3)
    wait_until(lambda: f"Restarts={restarts}" in asked(env, "scontrol", "show", "job", job), 400)
    set_limit(env, job, MINUTES[1])


def set_limit(env, job, minutes):
    subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}"], env=env, check=True)


def test_two_jobs_share_a_node_and_a_cancelled_one_leaves_the_other_alone(slurm, tmp_path):
    held = ("data.limit=400", "search.trials=4", *ONE_NODE, "--sbatch", "hold")  # planning them takes its time
    first, second = (submit(slurm, tmp_path, name, *held) for name in ("one", "two"))
    subprocess.run(["scontrol", "release", first, second], env=slurm, check=True)
    wait_until(lambda: steps(tmp_path, "one") and steps(tmp_path, "two"), 600)
    subprocess.run(["scancel", first], env=slurm, check=True)
    wait_until(lambda: is_over(slurm, first) and is_over(slurm, second), 1200)
    check_whole(tmp_path, "two", 4)
    again = submit(slurm, tmp_path, "one", "data.limit=400", "search.trials=4", *ONE_NODE)
    wait_until(lambda: is_over(slurm, again), 1200)
    check_whole(tmp_path, "one", 4)


def test_a_job_that_is_requeued_by_hand_loses_nothing(slurm, tmp_path):
    job = submit(slurm, tmp_path, "again", "data.limit=400", "search.trials=4", *ONE_NODE)
    wait_until(lambda: steps(tmp_path, "again") >= 8, 600)
    subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
    wait_until(lambda: is_over(slurm, job), 1200)
    assert "Restarts=1" in asked(slurm, "scontrol", "show", "job", job)
    check_whole(tmp_path, "again", 4)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_node_lost_in_the_middle_loses_nothing(slurm, tmp_path, node):
    """The batch script runs on n1, and with it the driver."""
    job = submit(slurm, tmp_path, "lost", "search.trials=4", "data.limit=400", "--nodes", "2", *MINUTES)
    wait_until(lambda: steps(tmp_path, "lost") >= 8, 600)
    kill_node(slurm, node)
    wait_until(lambda: asked(slurm, "sinfo", "-h", "-n", node, "--format=%T").startswith("down"), 120)
    subprocess.run(["slurmd", "-N", node], env=slurm, check=True)
    wait_until(lambda: is_over(slurm, job), 1200)
    assert "Restarts=1" in asked(slurm, "scontrol", "show", "job", job)
    check_whole(tmp_path, "lost", 4)


def kill_node(env, node):
    """Kills a node's slurmd, its slurmstepds and all that runs below them."""
    conf = env["SLURM_CONF"]
    psutil.Process(int(Path(conf).with_name(f"slurmd-{node}.pid").read_text())).kill()
    for process in psutil.process_iter():
        try:
            its, above = process.environ(), process.parent()
            if (its.get("SLURM_CONF"), its.get("SLURMD_NODENAME")) == (conf, node):
                for one in (above, process):
                    if one is process or (one and one.name() == "slurmstepd"):
                        one.kill()
        except psutil.Error:  # it has ended, or has no environment to read
            continue
