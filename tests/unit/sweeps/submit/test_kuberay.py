"""The RayJob, by the fields that KubeRay's own definition (ray.io/v1, release 1.5) has."""

import pytest
import yaml

from sweeps.config.sweep_config import load_config
from sweeps.submit.__main__ import main

ROOT = __file__.partition("/tests/")[0]
# Copied from `ray-operator/config/crd/bases/ray.io_rayjobs.yaml`: those of the fields that are used here, with types.
FIELDS = {
    "spec": {
        "entrypoint": str, "submissionMode": str, "backoffLimit": int, "shutdownAfterJobFinishes": bool,
        "rayClusterSpec": dict,
    },
    "rayClusterSpec": {"rayVersion": str, "authOptions": dict, "headGroupSpec": dict, "workerGroupSpecs": list},
    "headGroupSpec": {"rayStartParams": dict, "template": dict},
    "workerGroupSpecs": {
        "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "rayStartParams": dict,
        "template": dict,
    },
}  # fmt: skip


@pytest.fixture
def documents(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    arguments = ["conf/smoke.yaml", "storage_path=/mnt/shared", "name=My_Sweep.1", "--kuberay", "--image", "me/it:1"]
    assert main([*arguments, "--claim", "pool", "--nodes", "2", "--gpus-per-node", "4", "--dry-run"]) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def check(name, found):
    for item in found if isinstance(found, list) else [found]:
        assert {key: type(value) for key, value in item.items()} == FIELDS[name]
        for key, value in item.items():
            if key in FIELDS:
                check(key, value)


def test_the_job_has_the_fields_of_kuberays_definition(documents):
    _, job = documents
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("ray.io/v1", "RayJob", "my-sweep-1")
    check("spec", job["spec"])
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"] == 2


def test_it_resumes_from_the_config_that_it_carries_and_every_pod_sees_the_storage(documents, tmp_path):
    config_map, job = documents
    (tmp_path / "sweep.yaml").write_text(config_map["data"]["sweep.yaml"])
    assert load_config(tmp_path / "sweep.yaml").name == "My_Sweep.1"
    assert "--resume auto" in job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        names = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == names
        assert mounts["shared"] == "/mnt/shared"
        assert job["spec"]["entrypoint"].split()[3].startswith(mounts["config"])
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 4}}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--claim", "pool"], "error: --image: must name an image with Ray and this project, got none; "),
        (["--image", "me/it:1"], "error: storage_path: must be shared by all pods, got /mnt/shared; "),
        (
            ["storage_path=mnt", "--image", "me/it:1", "--claim", "pool"],
            "error: storage_path: must be absolute for a RayJob, got mnt; ",
        ),
    ],
)
def test_what_is_missing_is_one_line(monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(ROOT)
    assert main(["conf/smoke.yaml", "storage_path=/mnt/shared", "--kuberay", "--dry-run", *arguments]) == 2
    assert capsys.readouterr().err.startswith(line)
