"""A real Slurm of two nodes on this machine, from Debian's packages slurm-wlm and munge."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest

from tests.integration.conftest import ROOT, environment

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, NEEDED)), reason=f"needs root and {', '.join(NEEDED)}"
)
CONF = """ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=10
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
SlurmdTimeout=10
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@contextmanager
def two_nodes(folder):
    """Starts it with its files in a folder; yields the environment for its commands."""
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
    wait_until(lambda: idle_nodes(env) == "2", 60)
    try:
        yield env
    finally:
        subprocess.run(["scancel", "--user=root"], env=env, check=False)
        wait_until(lambda: asked(env, "squeue", "-h") == "", 120)  # else what its steps started would stay
        for file in folder.glob("*.pid"):
            subprocess.run(["kill", file.read_text().strip()], check=False)


def asked(env, *command):
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout.strip()


def idle_nodes(env):
    return asked(env, "sinfo", "-h", "--states=idle", "--format=%D")


def wait_until(happens, seconds):
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.5)
