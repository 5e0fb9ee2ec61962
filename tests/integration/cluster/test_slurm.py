"""A sweep on a real Slurm of two nodes on this machine: requeued at its time limits, and two jobs on one node.

Needs Debian's packages slurm-wlm and munge, and root; skipped without them.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tests.integration.conftest import ROOT, environment

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, NEEDED)), reason=f"needs root and {', '.join(NEEDED)}"
    ),
]
CONF = """ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
ONE_CPU = ("--cpus-per-task", "1", "--time", "30")
SMALL = ("wandb.mode=disabled", "resources.lanes=1", "data.limit=200")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    held = [socket.create_server(("", 0)) for _ in range(3)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, ports=ports))
    env = environment(SLURM_CONF=str(folder / "slurm.conf"), PYTHONPATH=str(ROOT))
    files = [f"--{name}={folder}/munge.{end}" for name, end in (("key-file", "key"), ("socket", "sock"))]
    files += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    subprocess.run(["munged", "--force", *files], check=True)
    subprocess.run(["slurmctld"], env=env, check=True)
    for node in ("n1", "n2"):
        subprocess.run(["slurmd", "-N", node], env=env, check=True)
    wait_until(lambda: asked(env, "sinfo", "-h", "--states=idle", "--format=%D") == "2", 60)
    yield env
    for file in folder.glob("*.pid"):
        subprocess.run(["kill", file.read_text().strip()], check=False)


def asked(env, *command):
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout.strip()


def wait_until(happens, seconds):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(1)


def submit(env, folder, name, *arguments):
    command = [sys.executable, "-m", "sweeps.submit", str(ROOT / "conf" / "smoke.yaml"), f"name={name}"]
    command += [f"storage_path={folder}", *SMALL, "--slurm", *arguments]
    (folder / "conf").is_symlink() or (folder / "conf").symlink_to(ROOT / "conf")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def is_over(env, job):
    return asked(env, "squeue", "-h", "-j", job, "-o", "%T") == ""


def trials(folder, name):
    return [json.loads(line) for line in (folder / name / "trials.jsonl").read_text().splitlines()]


def test_a_sweep_longer_than_its_time_limit_finishes_by_itself(slurm, tmp_path):
    job = submit(slurm, tmp_path, "long", "search.trials=12", "--nodes", "2", "--time", "3", "--grace", "60")
    wait_until(lambda: is_over(slurm, job), 2000)
    log = (tmp_path / f"long-{job}.log").read_text()
    assert "Interrupted" in log, "it needed more than one allocation, or this test shows nothing"
    ended = trials(tmp_path, "long")
    assert sorted(trial["trial_id"] for trial in ended) == [f"t{number:04}" for number in range(1, 13)]
    assert all(trial["state"] in ("complete", "pruned") for trial in ended)
    curves = [(tmp_path / "long" / "trials" / trial["trial_id"] / "curve.jsonl").read_text() for trial in ended]
    for trial, curve in zip(ended, curves, strict=True):
        steps = [json.loads(line)["step"] for line in curve.splitlines()]
        assert steps == list(range(1, trial["steps"] + 1)), "no step lost, none doubled"
    assert not list(tmp_path.glob("long-*.jsonl")), "the count of allocations goes with the job"


def test_two_jobs_share_a_node_and_a_cancelled_one_leaves_the_other_alone(slurm, tmp_path):
    first, second = (
        submit(
            slurm, tmp_path, name, "search.trials=2", "--cpus-per-task", "1", "--time", "30", "--sbatch", "nodelist=n1"
        )
        for name in ("one", "two")
    )
    wait_until(lambda: (tmp_path / "two" / "trials").is_dir() and (tmp_path / "one" / "trials").is_dir(), 600)
    subprocess.run(["scancel", first], env=slurm, check=True)
    wait_until(lambda: is_over(slurm, first) and is_over(slurm, second), 1200)
    assert [trial["state"] for trial in trials(tmp_path, "two")] == ["complete"] * 2
    again = submit(slurm, tmp_path, "one", "search.trials=2", "--time", "30")
    wait_until(lambda: is_over(slurm, again), 1200)
    assert [trial["state"] for trial in trials(tmp_path, "one")] == ["complete"] * 2
