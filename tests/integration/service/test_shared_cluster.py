"""Two `auto` sweeps on one Ray cluster of two nodes, as its jobs: they share it, and outlive service and head."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, environment, random_llama
from tests.integration.service.test_service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

TOKEN = "a-token-for-tests-" + "0" * 24
TRIALS, STEPS = 8, 200
FIRST_TRIALS = 14  # so that the first sweep trains yet when the second has started, a minute or two after it was sent
SETTING = [
    "wandb.mode=disabled", f"search.trials={TRIALS}", "search.trial_scheduler=none", "search.sampler=random",
    "confirm.budget=0", f"data.limit={2 * STEPS}", "training.batch_size=2",
]  # fmt: skip
CLUSTER = """
import socket, sys
from ray.cluster_utils import Cluster

def add(**options):
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]  # not the one that every Ray of this machine would take
    added = many.add_node(num_cpus=1, wait=False, dashboard_agent_listen_port=port, **options)
    many._wait_for_node(added, 300)

many = Cluster(initialize_head=False)
add(include_dashboard=True, dashboard_port=int(sys.argv[1]))
# A folder of its own for what jobs bring along: in the first node's, it would replace theirs while they run.
add(runtime_env_dir_name="second")
print(many.head_node.webui_url, flush=True)
sys.stdin.read()
many.shutdown()
"""


class Nodes:
    """A cluster in a process of its own, which can be lost and started again under the same address."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        self.scratch = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray's sockets lie in it
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # a job's `python` is the cluster's
        self.holder = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(self.scratch / "log").open("w"), text=True,
            env=environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, RAY_TMPDIR=str(self.scratch), PATH=path),
        )  # fmt: skip
        found = self.holder.stdout.readline().strip()
        assert found, (self.scratch / "log").read_text()
        self.url = f"http://{found}"

    def end(self):
        self.holder.communicate("", timeout=120)
        shutil.rmtree(self.scratch, ignore_errors=True)


@pytest.fixture
def nodes():
    found = Nodes()
    yield found
    found.end()


@pytest.fixture
def slow_model(tmp_path):
    return random_llama(tmp_path / "store" / ".model", 192, 384, 3)


def serve(storage, nodes, headers=None):
    return Service(storage, headers, "--address", nodes.url, RAY_AUTH_TOKEN=TOKEN)


def send(service, name, *overrides):
    body = {"config": (ROOT / "conf" / "smoke.yaml").read_text(), "overrides": [f"name={name}", *overrides]}
    answer = service.client.post("/sweeps", json={**body, "client_id": name})
    assert answer.status_code == 201, answer.text


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def targets(storage):
    files = (storage / ".service" / "lanes").glob("*.target.json")
    return {path.name.split(".")[0]: json.loads(path.read_text())["lanes"] for path in files}


def wait_for(condition, storage, seconds=900):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (targets(storage), (storage / ".service" / "ledger.jsonl").read_text())
        time.sleep(0.5)


def all_steps_once(storage, name, count):
    trials = lines(storage / name / "trials.jsonl")
    assert len(trials) == count
    for trial in trials:
        assert trial["state"] == "complete"
        curve = lines(storage / name / "trials" / trial["trial_id"] / "curve.jsonl")
        assert [line["step"] for line in curve] == list(range(1, STEPS + 1))
        assert len({sample for line in curve for sample in line["ids"]}) == 2 * STEPS
    return trials


def test_two_sweeps_share_a_cluster_and_are_found_by_a_service_that_was_killed(tmp_path, nodes, slow_model):
    storage = tmp_path / "store"
    setting = [f"model.name={slow_model}", *SETTING]
    service = serve(storage, nodes)
    try:
        send(service, "first", *setting, f"search.trials={FIRST_TRIALS}")
        curves = [storage / "first" / "trials" / trial / "curve.jsonl" for trial in ("t0001", "t0002")]
        wait_for(lambda: all(lines(curve) for curve in curves), storage)  # both lanes train when one is asked back
        assert targets(storage)["1-1"] == 2
        send(service, "second", *setting)
        wait_for(lambda: targets(storage) == {"1-1": 1, "2-1": 1}, storage)
        states = {one["id"]: one["state"] for one in service.client.get("/queue").json()}
        assert states == {"first": "running", "second": "running"}
        service.kill()
        service = serve(storage, nodes, service.headers)
        row = service.until("first", lambda row: row["queue"] not in ("queued", "running"))
        assert row["queue"] == "complete"
        left, seen = TRIALS - len(lines(storage / "second" / "trials.jsonl")), set()

        def grew_or_ended():
            seen.add(targets(storage)["2-1"])
            return 2 in seen or len(lines(storage / "second" / "trials.jsonl")) == TRIALS

        wait_for(grew_or_ended, storage)
        assert 2 in seen or left < 2, left  # one trial needs one lane
        row = service.until("second", lambda row: row["queue"] not in ("queued", "running"))
        assert row["queue"] == "complete"
    finally:
        service.kill()
    counts = {"first": FIRST_TRIALS, "second": TRIALS}
    trials = {name: all_steps_once(storage, name, count) for name, count in counts.items()}
    events = {name: lines(storage / name / "ledger.jsonl") for name in trials}
    for each in events.values():
        assert [event["event"] for event in each].count("sweep_started") == 1
    # The first gave a lane back while a trial ran there, which went on elsewhere from its step.
    handed_on = [trial for trial in trials["first"] if trial.get("preempted")]
    assert handed_on, trials["first"]
    ends = {name: each[-1]["unix_seconds"] for name, each in events.items()}
    begun = {name: each[0]["unix_seconds"] for name, each in events.items()}
    assert begun["second"] < ends["first"]


def test_a_sweep_whose_head_was_lost_is_sent_again_and_resumes(tmp_path, nodes, slow_model):
    storage = tmp_path / "store"
    service = serve(storage, nodes)
    try:
        send(service, "first", f"model.name={slow_model}", *SETTING, "search.trials=2")
        wait_for(lambda: len(lines(storage / "first" / "trials" / "t0001" / "curve.jsonl")) > 10, storage)
        nodes.end()
        time.sleep(3)
        assert service.client.get("/queue").json()[0]["state"] == "running"  # nothing is known of it
        nodes.start()
        row = service.until("first", lambda row: row["queue"] not in ("queued", "running"))
        assert row["queue"] == "complete"
    finally:
        service.kill()
    kinds = [event["event"] for event in lines(storage / "first" / "ledger.jsonl")]
    assert kinds.count("sweep_started") == 2
    starts = [event for event in lines(storage / ".service" / "ledger.jsonl") if event["event"] == "starting"]
    assert [event["attempt"] for event in starts] == [1, 2]
    for trial in lines(storage / "first" / "trials.jsonl"):
        curve = lines(storage / "first" / "trials" / trial["trial_id"] / "curve.jsonl")
        assert [line["step"] for line in curve] == list(range(1, STEPS + 1))
