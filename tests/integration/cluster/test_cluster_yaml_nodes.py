"""The node types of cluster.yaml, brought up by Ray's own autoscaler on this machine: provider `fake_multinode`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from tests.integration.conftest import ROOT, environment

HEAD_ID = "f" * 51 + "00000"
LOOK = """
import json, sys, ray
from ray.autoscaler.sdk import request_resources
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
if sys.argv[2] != "0":
    request_resources(bundles=[{"GPU": 1, "CPU": 8}] * int(sys.argv[2]))
print(json.dumps([{k: n["Resources"].get(k, 0) for k in ("CPU", "GPU")} for n in ray.nodes() if n["Alive"]]))
"""


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def processes_of(scratch):
    """Ids of Ray's processes whose files lie in a folder: nodes of the fake provider outlive the head."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and scratch.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return [pid for pid in found if pid != os.getpid()]


@pytest.fixture(scope="module")
def cluster():
    """The address and environment of a head that was started with cluster.yaml's node types."""
    scratch = tempfile.mkdtemp(prefix="fake-", dir="/tmp")
    port = free_port()
    config = prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text()))
    address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
    config["provider"] = {
        "type": "fake_multinode",
        "gcs_address": address,
        "head_node_id": HEAD_ID,
        "launch_multiple": True,
    }
    config["head_node_type"] = "ray.head.default"  # the fake provider knows no other name
    config["available_node_types"]["ray.head.default"] = config["available_node_types"].pop("head")
    (Path(scratch) / "fake.yaml").write_text(yaml.safe_dump(config))
    settings = environment(
        RAY_FAKE_CLUSTER="1", RAY_enable_autoscaler_v2="0", RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD_ID,
        RAY_CLOUD_INSTANCE_ID=HEAD_ID, RAY_TMPDIR=scratch, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a-token-" + "0" * 32,
        AUTOSCALER_UPDATE_INTERVAL_S="1", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )  # fmt: skip
    start = [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=0"]
    more = [f"--autoscaling-config={scratch}/fake.yaml", "--include-dashboard=false", "--num-gpus=0"]
    with (Path(scratch) / "log").open("w") as log:
        head = subprocess.Popen([*start, *more], env=settings, stdout=log, stderr=log)
    yield address, settings, Path(scratch)
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    for pid in processes_of(scratch):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


def nodes(cluster, request=0):
    address, settings, _ = cluster
    command = [sys.executable, "-c", LOOK, address, str(request)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=100, check=False)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr


def wait_for(cluster, expected, request=0, seconds=200):
    deadline = time.monotonic() + seconds
    while (found := nodes(cluster, request)) != expected:
        found = sorted(found, key=str) if isinstance(found, list) else found
        if found == sorted(expected, key=str):
            return
        logs = "".join(path.read_text()[-2000:] for path in (cluster[2] / "ray").rglob("monitor.*"))
        assert time.monotonic() < deadline, f"{found}\n{(cluster[2] / 'log').read_text()}\n{logs}"
        time.sleep(1)


HEAD, GPU = {"CPU": 0, "GPU": 0}, {"CPU": 48.0, "GPU": 4.0}


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_gpu_nodes_come_up_beside_a_head_without_resources_and_more_when_lanes_ask(cluster):
    wait_for(cluster, [HEAD, GPU])
    wait_for(cluster, [HEAD, GPU, GPU], request=8)
