"""A sweep as a job on a Ray cluster with token authentication, by the real command."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import ROOT, environment

TOKEN, OTHER = "a-token-for-tests-" + "0" * 24, "another-token-for-tests-" + "0" * 24
pytestmark = pytest.mark.slow

CLUSTER = """
import ray, sys
print(ray.init(address="local", num_cpus=2, include_dashboard=True, log_to_driver=False).dashboard_url, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def address():
    """The dashboard of a cluster of its own, which ends with the process that holds it."""
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: Ray's sockets lie in it
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # a job's `python` is the cluster's
    holder = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=(Path(scratch) / "log").open("w"), text=True,
        env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, RAY_TMPDIR=scratch, PATH=path),
    )  # fmt: skip
    found = holder.stdout.readline().strip()
    assert found, (Path(scratch) / "log").read_text()
    yield f"http://{found}"
    holder.communicate("", timeout=60)
    shutil.rmtree(scratch, ignore_errors=True)


def submit(*arguments, token=TOKEN):
    command = [sys.executable, "-m", "sweeps.submit", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(RAY_AUTH_TOKEN=token),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_nobody_gets_in_without_a_token(address):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=10)
    assert caught.value.code == 401
    caught.value.close()


def test_a_wrong_token_is_an_error_of_one_line(address):
    done = submit("list", "--address", address, token=OTHER)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --address: the cluster must accept this machine's token, got ")
    assert len(done.stderr.splitlines()) == 1
    assert OTHER not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["status", "nothing"], "error: --address: the cluster's Ray Jobs must do as asked, got "),
        (["stop"], "error: arguments: stop needs the ID of one job"),
        (["conf/smoke.yaml"], "error: storage_path: must be absolute for a job on a cluster, got outputs"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(address, arguments, line):
    done = submit(*arguments, "--address", address)
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_the_log_is_shown_and_the_exit_code_is_the_sweeps(address, tmp_path):
    arguments = (f"storage_path={tmp_path}", "data.train=/nowhere/train.jsonl")
    done = submit("conf/smoke.yaml", *arguments, "--address", address)
    assert done.returncode == 2, done.stderr + done.stdout
    assert "error: /nowhere/train.jsonl: " in done.stdout
    assert "failed, exit code 2  smoke" in done.stdout


@pytest.mark.timeout(400)
def test_a_job_that_is_stopped_ends_in_order(address, tmp_path):
    arguments = (f"storage_path={tmp_path}", "data.limit=400", "search.trials=50", "--no-wait")
    begun = submit("conf/smoke.yaml", *arguments, "--address", address)
    assert begun.returncode == 0, begun.stderr
    (job_id,) = [line.split()[1].rstrip(":") for line in begun.stdout.splitlines() if line.startswith("job ")]
    folder = tmp_path / "smoke"
    curve = folder / "trials" / "t0001" / "curve.jsonl"
    deadline = time.monotonic() + 240
    while not (curve.exists() and curve.stat().st_size):
        assert time.monotonic() < deadline, submit("status", job_id, "--address", address).stdout
        time.sleep(0.2)
    assert f"{job_id}  running  smoke  started 20" in submit("list", "--address", address).stdout

    stopped = submit("stop", job_id, "--address", address)
    assert stopped.stdout.startswith(f"{job_id}  stopped")
    assert json.loads((folder / "manifest.json").read_text())["state"] == "interrupted"
    assert Ledger(folder).read()[0][-1]["event"] == "sweep_ended"
