"""Real sweeps in surroundings that are not made for them: each comes to its end, and leaves all that others leave."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from sweeps.ledger.ledger import unseal
from tests.integration.conftest import ROOT, command, environment, run_sweep
from tests.integration.wandb.wandb_case import KEY, sync
from tests.integration.wandb.wandb_server import WandbServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

OFF = ["search.trials=1", "confirm.budget=0", "wandb=off"]


def check_whole(folder):
    """The sweep has ended well, and has its leaderboard and its report; its events."""
    assert json.loads((folder / "manifest.json").read_text())["state"] == "complete"
    assert json.loads((folder / "leaderboard.json").read_text())["winner"]
    assert (folder / "report.html").is_file()
    return [unseal(line) for line in (folder / "ledger.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("lines", [0, 3, 12])
def test_a_reader_of_stdout_that_leaves_changes_nothing(tmp_path, lines):
    """As `| head` does, and a `tee` that is killed."""
    arguments = command("conf/smoke.yaml", f"storage_path={tmp_path}", *OFF)
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        for _ in range(lines):
            running.stdout.readline()
        running.stdout.close()
        stderr = running.stderr.read()
    assert running.returncode == 0, stderr
    assert stderr == "warning: stdout can't be written any more (Broken pipe): the sweep goes on\n"
    (lost,) = [event for event in check_whole(tmp_path / "smoke") if event["event"] == "console_lost"]
    assert (lost["stream"], lost["why"]) == ("stdout", "Broken pipe")


@pytest.mark.parametrize("name", ["a [/b]  c", "räum [v2] k=1"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path / name}", *OFF, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr + done.stdout
    check_whole(tmp_path / name / "smoke")
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path / name}", "name=again", *OFF, PYTHONUTF8="1")
    line = next(line for line in done.stdout.splitlines() if line.startswith("  Export "))
    assert shlex.split(line)[1:5] == ["python", "-m", "analysis.export", str(tmp_path / name / "again")]


def test_no_home_and_a_temporary_folder_that_is_too_long_for_ray(tmp_path):
    long = tmp_path / ("a" * 90)
    long.mkdir()
    before = {path.name for path in Path("/tmp").glob("ray-*")}
    # The demo's model is made below the current folder, so that no cache of the home's is needed.
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", *OFF, TMPDIR=str(long), HOME="/proc/nope")
    assert done.returncode == 0, done.stderr + done.stdout
    check_whole(tmp_path / "smoke")
    assert {path.name for path in Path("/tmp").glob("ray-*")} == before, "the short folder is removed"


def test_without_a_network_every_run_of_wandbs_waits_on_the_disk(tmp_path):
    gone = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY, "HOME": str(tmp_path)}
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", "search.trials=2", "confirm.budget=0", **gone)
    assert done.returncode == 0, done.stderr + done.stdout
    check_whole(tmp_path / "smoke")
    runs = list((tmp_path / "smoke" / "wandb").glob("offline-run-*"))
    assert len(runs) == 4, "two trials, the base model and the sweep's own"
    with WandbServer() as server:
        for run in runs:
            sync(server, run)
        rows = sorted(len(run.rows("train/loss")) for run in server.runs.values())
    steps = [json.loads(line)["steps"] for line in (tmp_path / "smoke" / "trials.jsonl").read_text().splitlines()]
    assert rows == [0, 0, *sorted(steps)]


def test_auto_joins_no_local_cluster_of_another_program(tmp_path):
    """A sweep's own cluster runs here meanwhile: only Ray itself would take that for one to join."""
    arguments = command("conf/smoke.yaml", f"storage_path={tmp_path}", *OFF)
    with subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as other:
        while "at a time" not in (line := other.stdout.readline()) and line:
            pass
        quiet = dict.fromkeys(("RAY_ADDRESS", "RAY_TMPDIR"), "")
        own = tmp_path / "t"
        own.mkdir()
        done = run_sweep(
            "conf/smoke.yaml", f"storage_path={tmp_path}", "name=b", "--address", "auto", **quiet, TMPDIR=str(own)
        )
        assert other.poll() is None, "the other sweep still runs"
        other.stdout.read()
    assert other.returncode == 0
    assert done.returncode == 2
    assert done.stderr.startswith("error: --address: auto needs RAY_ADDRESS or a cluster of `ray start`, got none in")
    assert not (tmp_path / "b").exists()
