"""Sweeps that are handed to Slurm (its programs are faked) or to Kueue (its fields, and a fake kubectl)."""

import json
import os
import shlex
import shutil
import sys
from argparse import Namespace

import pytest
import yaml

from sweeps.service.queue.entries import ENDED, PAUSED, QUEUED, RUNNING
from sweeps.service.queue.queue import SERVICE_FOLDER, Queue
from sweeps.service.runs.attempts import UnreachableError
from sweeps.service.runs.runner import Runner
from sweeps.service.runs.scheduled_jobs import KueueJobs, SlurmJobs
from sweeps.submit.__main__ import main as submit
from sweeps.submit.options import JOB_OPTIONS
from tests.unit.sweeps.service.conftest import ROOT

# Jobs are lines NAME|STATE|REASON of the file `jobs`, as squeue prints them.
SLURM = {
    "sbatch": """
text = sys.stdin.read()
name = next(line.split("=", 1)[1] for line in text.splitlines() if line.startswith("#SBATCH --job-name="))
if (here / "hangs").exists():
    time.sleep(60)
if (here / "down").exists():
    sys.exit("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)")
if (here / "refuses").exists():
    sys.exit("sbatch: error: invalid partition specified: gone")
(here / f"{name}.sh").write_text(text)
with (here / "jobs").open("a") as jobs:
    print(f"{name}|PENDING|Priority", file=jobs)
if (here / "loses").exists():
    sys.exit("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
print("Submitted batch job 7")
""",
    "squeue": """
if (here / "down").exists():
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
wanted = next(arg for arg in sys.argv if arg.startswith("--name=")).removeprefix("--name=").split(",")
lines = (here / "jobs").read_text().splitlines() if (here / "jobs").exists() else []
print("\\n".join(line for line in lines if line.split("|")[0] in wanted))
""",
    "scancel": """
(here / "canceled").write_text(sys.argv[1])
name = sys.argv[1].removeprefix("--name=")
lines = (here / "jobs").read_text().splitlines()
(here / "jobs").write_text("".join(f"{line}\\n" for line in lines if line.split("|")[0] != name))
""",
    # RayJobs are files NAME.json, as `kubectl get` shows them.
    "kubectl": """
if (here / "down").exists():
    sys.exit("The connection to the server was refused")
if sys.argv[1] == "apply":
    job = list(yaml.safe_load_all(sys.stdin))[1]
    (here / f"{job['metadata']['name']}.json").write_text(json.dumps({**job, "status": {}}))
elif sys.argv[1] == "get":
    print(json.dumps({"items": [json.loads(path.read_text()) for path in here.glob("sweep-*.json")]}))
else:
    (here / f"{sys.argv[3]}.json").unlink()
""",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder with the programs, first on the PATH, and the jobs."""
    here = tmp_path / "cluster"
    here.mkdir()
    for name, body in SLURM.items():
        head = f"#!{sys.executable}\nimport json, pathlib, sys, time\n{'import yaml' * (name == 'kubectl')}\n"
        (here / name).write_text(f"{head}here = pathlib.Path({str(here)!r})\n{body}")
        (here / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    monkeypatch.chdir(ROOT)
    return here


def given(**options):
    names = [name.replace("-", "_") for name, *_ in JOB_OPTIONS]
    return Namespace(**{**dict.fromkeys(names), "sbatch": [], **options})


class Service:
    """A service on a storage; `again` starts it once more, as after a kill."""

    def __init__(self, storage, kind=SlurmJobs, queue_of=lambda _: None, **options):
        self.storage, self.folder = storage / "store", storage / "store" / SERVICE_FOLDER
        (self.folder / "sent").mkdir(parents=True, exist_ok=True)
        self._how = kind, queue_of, options
        self.again()

    def again(self):
        kind, queue_of, options = self._how
        self.queue = Queue(self.folder)
        self.attempts = kind(self.folder, given(**options), queue_of)
        self.runner = Runner(self.queue, self.storage, self.attempts)

    def send(self, *names, user="ada"):
        for name in names:
            text = (ROOT / "conf" / "smoke.yaml").read_text().replace("name: smoke", f"name: {name}")
            (self.folder / "sent" / f"{name}-1.yaml").write_text(text.replace("outputs", str(self.storage)))
            fields = {"user": user, "client_id": name, "key": f"{name}-1", "priority": 0, "forecast_hours": 99.0}
            self.queue.record("submitted", name, **fields)

    def state(self, name):
        entry = self.queue.get(name)
        return entry.state, entry.outcome

    def manifest(self, name, state, ended=True):
        folder = self.storage / name
        if not folder.exists():
            folder.mkdir()
            shutil.copy(self.folder / "sent" / f"{name}-1.yaml", folder / "sweep.yaml")
        (folder / "manifest.json").write_text(json.dumps({"state": state, "ended": "2026-11-30" if ended else None}))


def jobs(cluster, change=lambda line: line):
    lines = [change(line) for line in (cluster / "jobs").read_text().splitlines()]
    (cluster / "jobs").write_text("".join(f"{line}\n" for line in lines if line))
    return [line.split("|") for line in lines if line]


def test_slurm_gets_all_sweeps_at_once_with_what_was_asked_and_says_what_they_wait_for(cluster, tmp_path):
    service = Service(tmp_path, queue_of={"ada": "physics"}.get, partition="gpu", account="all", time="30", nodes=2)
    service.send("first")
    service.send("second", user="bob")
    service.runner.step()
    service.runner.step()
    (first, _, _), (second, _, _) = jobs(cluster)
    asked = (cluster / f"{first}.sh").read_text().splitlines()
    for option in ("account=physics", "partition=gpu", "time=30", "nodes=2", f"output={first}-%j.log", "requeue"):
        assert f"#SBATCH --{option}" in asked
    assert "#SBATCH --account=all" in (cluster / f"{second}.sh").read_text()
    config = next(
        word for word in shlex.split((cluster / f"{first}.sh").read_text(), comments=True) if "CONFIG=" in word
    )
    sent = yaml.safe_load(config.removeprefix("CONFIG="))
    assert sent["data"]["train"] == str(ROOT / "conf/data/demo/train.jsonl")  # the job runs in another folder
    assert service.queue.waits_for == {"first": "Slurm: Priority", "second": "Slurm: Priority"}
    jobs(cluster, lambda line: line.replace("PENDING|Priority", "RUNNING|None"))
    service.runner.step()
    assert service.queue.waits_for == {}


def test_a_job_is_found_again_by_a_later_service_and_its_end_is_read_from_the_manifest(cluster, tmp_path):
    service = Service(tmp_path)
    service.send("first", "second", "third")
    service.runner.step()
    service.again()
    service.runner.step()
    assert len(jobs(cluster)) == 3
    assert service.state("first") == (RUNNING, "")
    service.manifest("first", "complete")
    service.manifest("second", "running", ended=False)
    (log,) = [service.folder / "attempts" / f"{name}-7.log" for name, *_ in jobs(cluster) if "third" in name]
    log.write_text("Ray: 1 of 1 nodes are up\nerror: data.train: must be a file, got x; mend it\n")
    jobs(cluster, lambda _: "")
    service.runner.step()
    assert [service.state(name) for name in ("first", "second", "third")] == [
        (ENDED, "complete"), (ENDED, "killed"), (ENDED, "failed")]  # fmt: skip
    assert service.queue.get("third").error == "error: data.train: must be a file, got x; mend it"


def test_a_service_that_was_killed_before_sbatch_hands_the_sweep_over_once(cluster, tmp_path):
    service = Service(tmp_path)
    service.send("first")
    service.queue.record("starting", "first", attempt=1, before=0, where="slurm")
    service.again()
    service.runner.step()
    service.runner.step()
    ((name, state, _),) = jobs(cluster)
    assert (state, service.queue.get("first").attempt) == ("PENDING", 2)
    assert name.startswith("sweep-1-2-")


@pytest.mark.parametrize(("ask", "state"), [("stop", (ENDED, "stopped")), ("pause", (PAUSED, ""))])
def test_a_sweep_is_stopped_or_paused_by_scancel_and_goes_on_when_resumed(cluster, tmp_path, ask, state):
    service = Service(tmp_path)
    service.send("first")
    service.runner.step()
    ((name, _, _),) = jobs(cluster)
    service.manifest("first", "running", ended=False)
    getattr(service.queue, ask)("first")
    service.runner.step()
    assert (cluster / "canceled").read_text() == f"--name={name}"
    service.manifest("first", "interrupted")
    service.runner.step()
    assert service.state("first") == state
    service.queue.resume("first")
    service.runner.step()
    ((again, _, _),) = jobs(cluster)
    assert again == name.replace("sweep-1-1-", "sweep-1-2-")
    assert "--resume auto" in (cluster / f"{again}.sh").read_text()


def test_what_slurm_refuses_ends_with_its_words_and_a_silent_controller_changes_nothing(cluster, tmp_path):
    service = Service(tmp_path)
    (cluster / "refuses").touch()
    service.send("first")
    service.runner.step()
    assert service.state("first") == (ENDED, "refused")
    assert "got sbatch: error: invalid partition specified: gone" in service.queue.get("first").error
    (cluster / "refuses").unlink()
    service.send("second")
    service.runner.step()
    (cluster / "down").touch()
    with pytest.raises(UnreachableError, match="squeue must answer, got slurm_load_jobs error"):
        service.runner.step()
    assert service.state("second") == (RUNNING, "")


@pytest.mark.parametrize(
    ("kind", "options", "fault"),
    [
        (SlurmJobs, {}, "down"),
        (SlurmJobs, {}, "hangs"),
        (KueueJobs, {"image": "me/it:1", "claim": "pool", "queue": "team"}, "down"),
    ],
)
def test_a_controller_that_is_down_as_a_sweep_begins_has_refused_nothing(
    cluster, tmp_path, monkeypatch, kind, options, fault
):
    service = Service(tmp_path, kind, **options)
    (cluster / fault).touch()
    service.send("first")
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.submit.hand_over.ANSWER_SECONDS", 0.5 if fault == "hangs" else 60)
        with pytest.raises(UnreachableError, match="must answer"):
            service.runner.step()
    assert service.state("first") == (RUNNING, "")
    (cluster / fault).unlink()
    service.runner.step()
    service.runner.step()
    assert (service.state("first"), service.queue.get("first").attempt) == ((RUNNING, ""), 2)
    assert service.queue.waits_for


def test_a_job_whose_answer_was_lost_is_not_sent_again(cluster, tmp_path):
    service = Service(tmp_path)
    (cluster / "loses").touch()
    service.send("first")
    service.runner.step()
    service.runner.step()
    ((_, state, _),) = jobs(cluster)
    assert (state, service.state("first"), service.queue.get("first").attempt) == ("PENDING", (RUNNING, ""), 1)
    jobs(cluster, lambda _: "")
    service.runner.step()
    assert service.state("first") == (ENDED, "failed")  # as one that was handed over


KUEUE = {  # what Kueue reads of a RayJob: https://kueue.sigs.k8s.io/docs/tasks/run/rayjobs/
    (): ({}, None),
    ("--queue", "team"): ({"kueue.x-k8s.io/queue-name": "team"}, True),
    ("--queue", "team", "--priority-class", "low"): (
        {"kueue.x-k8s.io/queue-name": "team", "kueue.x-k8s.io/priority-class": "low"}, True),
}  # fmt: skip


@pytest.mark.parametrize("options", KUEUE)
def test_kueues_fields(monkeypatch, capsys, options):
    monkeypatch.chdir(ROOT)
    arguments = ["conf/smoke.yaml", "storage_path=/mnt/s", "--kuberay", "--image", "me/it:1", "--claim", "pool"]
    assert submit([*arguments, *options, "--dry-run"]) == 0
    _, job = yaml.safe_load_all(capsys.readouterr().out)
    assert (job["metadata"].get("labels", {}), job["spec"].get("suspend")) == KUEUE[options]
    # Kueue refuses a job that would outlive its quota, that joins a cluster, or that an autoscaler grows.
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "clusterSelector" not in job["spec"]
    assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]


def test_a_priority_class_without_a_queue_is_one_line(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    options = ["--kuberay", "--image", "me/it:1", "--claim", "pool", "--priority-class", "low", "--dry-run"]
    assert submit(["conf/smoke.yaml", "storage_path=/mnt/s", *options]) == 2
    assert capsys.readouterr().err == "error: --priority-class: needs Kueue's queue, got low; name it with --queue\n"


def test_rayjobs_wait_for_kueue_run_and_end_and_each_has_its_users_queue(cluster, tmp_path):
    service = Service(tmp_path, KueueJobs, {"ada": "team-a"}.get, image="me/it:1", claim="pool")
    service.send("First_one")
    service.send("second", user="bob")
    service.runner.step()
    assert service.state("second") == (ENDED, "refused")
    assert service.queue.get("second").error.startswith("error: --queue: must name Kueue's local queue, got none; ")
    service.runner.step()
    (path,) = cluster.glob("sweep-*.json")
    job = json.loads(path.read_text())
    assert path.name.startswith("sweep-1-1-")
    assert path.stem.endswith("-first-one")
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team-a"}
    assert service.queue.waits_for == {"First_one": "Kueue: suspended"}
    job["spec"]["suspend"], job["status"] = False, {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}
    path.write_text(json.dumps(job))
    service.again()
    service.runner.step()
    assert (service.state("First_one"), service.queue.waits_for) == ((RUNNING, ""), {})
    service.manifest("First_one", "complete")
    path.write_text(json.dumps({**job, "status": {"jobStatus": "SUCCEEDED"}}))
    service.runner.step()
    assert service.state("First_one") == (ENDED, "complete")
    service.send("third")
    service.runner.step()
    service.queue.stop("third")
    service.runner.step()
    service.runner.step()
    assert service.state("third") == (ENDED, "stopped")
    assert [name.name for name in cluster.glob("sweep-*third.json")] == []
    assert service.queue.get("third").state != QUEUED
