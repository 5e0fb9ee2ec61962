"""Sweeps as Ray Jobs: found by the id that the log gives, stopped, refused, and sent again after the head was lost."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.run import parse
from sweeps.service.queue.entries import ENDED, RUNNING
from sweeps.service.queue.queue import SERVICE_FOLDER, Queue
from sweeps.service.runs import cluster_jobs
from sweeps.service.runs.attempts import UnreachableError
from sweeps.service.runs.cluster_jobs import ClusterJobs
from sweeps.service.runs.processes import Processes
from sweeps.service.runs.runner import Runner
from sweeps.service.runs.sharing import Broker
from sweeps.submit.job_package import CONFIG_FILE
from tests.unit.sweeps.service.conftest import ROOT
from trainables.errors import UserError


class Cluster:
    """A head with its table of jobs."""

    def __init__(self):
        self.jobs, self.stopped, self.sent, self.up = {}, [], [], True

    def submit(self, _client, command, job_id, folder, sweep):
        self.jobs[job_id] = ["RUNNING", None, ""]
        self.sent.append((sweep, command, (Path(folder) / CONFIG_FILE).read_text()))
        assert (Path(folder) / "sweeps" / "run.py").is_file()

    def list_jobs(self):
        return [
            SimpleNamespace(submission_id=name, driver_exit_code=code, status=_Status(state))
            for name, (state, code, _) in self.jobs.items()
        ]

    def stop_job(self, name):
        self.stopped.append(name)
        return True

    def get_job_logs(self, name):
        if name not in self.jobs:
            raise UserError("--address", "the cluster's Ray Jobs must do as asked", "404", "check the ID")
        return self.jobs[name][2]


class _Status(str):
    def is_terminal(self):
        return self in ("SUCCEEDED", "FAILED", "STOPPED")


@pytest.fixture
def cluster(monkeypatch):
    found = Cluster()

    @contextmanager
    def connected(*_, **__):
        if not found.up:
            raise UserError("--address", "a Ray dashboard must answer there", "nothing", "check the address")
        yield found

    monkeypatch.setattr(cluster_jobs, "connected", connected)
    monkeypatch.setattr(cluster_jobs, "start", found.submit)
    monkeypatch.chdir(ROOT)
    return found


def opened(storage):
    folder = storage / SERVICE_FOLDER
    (folder / "sent").mkdir(parents=True, exist_ok=True)
    queue = Queue(folder)
    return queue, Runner(queue, storage, ClusterJobs(folder, "http://head:8265"), dict, Broker(folder))


def send(queue, storage, *names):
    for name in names:
        text = (ROOT / "conf" / "smoke.yaml").read_text().replace("name: smoke", f"name: {name}")
        (queue.folder / "sent" / f"{name}-1.yaml").write_text(text.replace("outputs", str(storage)))
        queue.record("submitted", name, user="ada", client_id=name, key=f"{name}-1", priority=0)


def manifest(queue, storage, name, state, ended=True):
    (storage / name).mkdir(exist_ok=True)
    shutil.copy(queue.folder / "sent" / f"{name}-1.yaml", storage / name / "sweep.yaml")
    ends = "2026-11-30T00:00:00Z" if ended else None
    (storage / name / "manifest.json").write_text(json.dumps({"state": state, "ended": ends}))


def test_a_job_carries_the_config_and_nothing_of_a_user_reaches_the_heads_shell(cluster, tmp_path):
    queue, runner = opened(tmp_path)
    send(queue, tmp_path, "first")
    runner.step()
    ((sweep, command, config),) = cluster.sent
    assert sweep == "first"
    assert "first" not in command.replace(str(tmp_path), "")
    options = parse(command.split()[3:])
    assert (options.config, options.resume, options.address) == (CONFIG_FILE, "auto", "auto")
    assert options.lane_share.target == 1
    assert f"train: {ROOT}/conf/data/demo/train.jsonl" in config


def test_a_job_is_found_again_by_a_later_service_and_its_end_is_noted(cluster, tmp_path):
    queue, runner = opened(tmp_path)
    send(queue, tmp_path, "first", "second")
    runner.step()
    queue, runner = opened(tmp_path)
    for _ in range(3):
        runner.step()
    # The second waits: what the first needs of the cluster is not known.
    assert ([entry.state for entry in queue.entries.values()], len(cluster.sent)) == ([RUNNING, "queued"], 1)
    manifest(queue, tmp_path, "first", "complete")
    (name,) = cluster.jobs
    cluster.jobs[name] = ["SUCCEEDED", 0, ""]
    runner.step()
    assert (queue.get("first").outcome, len(cluster.sent)) == ("complete", 2)


def test_after_the_head_was_lost_the_sweep_is_sent_again_and_resumes_three_times_at_most(cluster, tmp_path):
    queue, runner = opened(tmp_path)
    send(queue, tmp_path, "first")
    runner.step()
    for sent in (2, 3, 3):
        manifest(queue, tmp_path, "first", "running", ended=False)
        cluster.up = False
        with pytest.raises(UnreachableError):
            runner.step()
        cluster.up, cluster.jobs = True, {}
        runner.step()
        assert len(cluster.sent) == sent
    assert (queue.get("first").state, queue.get("first").outcome) == (ENDED, "killed")
    assert {command.split(" --lane-share")[0] for _, command, _ in cluster.sent} == {
        "python -m sweeps.run job.yaml --resume auto --address auto"
    }


def test_a_job_that_its_service_never_sent_is_sent(cluster, tmp_path):
    queue, _ = opened(tmp_path)
    send(queue, tmp_path, "first")
    queue.record("starting", "first", attempt=1, before=0, where="ray")
    queue, runner = opened(tmp_path)
    runner.step()
    assert [name.split("-")[:3] for name in cluster.jobs] == [["sweep", "1", "2"]]


def test_a_stopped_job_is_told_once_and_a_refused_one_says_why(cluster, tmp_path):
    queue, runner = opened(tmp_path)
    send(queue, tmp_path, "first")
    runner.step()
    (first,) = cluster.jobs
    queue.stop("first")
    runner.step()
    runner.step()
    assert cluster.stopped == [first]
    manifest(queue, tmp_path, "first", "interrupted")
    cluster.jobs[first][0] = "STOPPED"
    runner.step()
    assert queue.get("first").outcome == "stopped"
    send(queue, tmp_path, "second")
    runner.step()
    (second,) = cluster.jobs.keys() - {first}
    cluster.jobs[second] = ["FAILED", 2, "the plan\nerror: data.train: must be a file, got x; mend it\n"]
    runner.step()
    assert (queue.get("second").outcome, queue.get("second").error) == (
        "refused", "error: data.train: must be a file, got x; mend it")  # fmt: skip


def test_a_service_that_is_started_without_its_cluster_leaves_the_clusters_sweeps_alone(cluster, tmp_path):
    queue, runner = opened(tmp_path)
    send(queue, tmp_path, "first", "second")
    runner.step()
    queue = Queue(tmp_path / SERVICE_FOLDER)
    with pytest.raises(UserError, match=r"starts sweeps by processes, got first, which runs by ray; start it with"):
        Runner(queue, tmp_path, Processes(queue.folder)).step()
    assert [entry.state for entry in queue.entries.values()] == [RUNNING, "queued"]
    assert len(cluster.sent) == 1
