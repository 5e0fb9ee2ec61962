"""A sweep as a RayJob of KubeRay: a config map, and the job, which resumes the sweep when it is tried again."""

from __future__ import annotations

import argparse
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from sweeps.config.sweep_config import SweepConfig, dump_config
from trainables.errors import UserError
from trainables.storage.object_store import is_url

CONFIG_MOUNT = "/etc/llm-sweeps"
QUEUE, PRIORITY_CLASS = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
RETRIES = 3  # ours: a lost head, or a node pool that was taken away, and not a loop for ever


def ray_job(sweep: SweepConfig, given: argparse.Namespace, job_name: str | None = None) -> str:
    """Writes the two documents as YAML, by the fields of KubeRay's `ray.io/v1`.

    Args:
        sweep: The sweep.
        given: `image`, `claim`, `namespace`, `nodes`, `gpus_per_node`, `cpus_per_task`, `queue` and `priority_class`
            of the command line.
        job_name: Of the RayJob; made of the sweep's where it is None.

    Raises:
        UserError: There is no image, or nothing that all pods share.
    """
    refuse_missing(sweep.storage_path, given)
    if not is_url(sweep.storage_path) and not Path(sweep.storage_path).is_absolute():
        remedy = "name the folder at which the claim is mounted in each pod, such as /mnt/shared"
        raise UserError("storage_path", "must be absolute for a RayJob", sweep.storage_path, remedy)
    name = dns_name(job_name or sweep.name)
    metadata: dict[str, Any] = {"name": name, "namespace": given.namespace or "default"}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "name": f"{name}-config"},
        "data": {"sweep.yaml": dump_config(sweep)},
    }
    if given.priority_class and not given.queue:
        raise UserError("--priority-class", "needs Kueue's queue", given.priority_class, "name it with --queue")
    # Kueue takes what carries its label, and lets a suspended job go when its queue has room.
    labels = {QUEUE: given.queue, PRIORITY_CLASS: given.priority_class}
    kueue = {"labels": {label: value for label, value in labels.items() if value}} if given.queue else {}
    spec = {**_job(sweep, name, given), **({"suspend": True} if given.queue else {})}
    job = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {**metadata, **kueue}, "spec": spec}
    return yaml.safe_dump_all([config_map, job], sort_keys=False, allow_unicode=True)


def refuse_missing(storage_path: str, given: argparse.Namespace) -> None:
    """Refuses options without which no sweep of a storage can be a RayJob.

    Raises:
        UserError: There is no image, or nothing that all pods share.
    """
    if not given.image:
        raise UserError("--image", "must name an image with Ray and this project", "none", "build one, push it")
    if not is_url(storage_path) and not given.claim:
        remedy = "name a volume claim of kind ReadWriteMany with --claim, or an object store as storage_path"
        raise UserError("storage_path", "must be shared by all pods", storage_path, remedy)


def _job(sweep: SweepConfig, name: str, given: argparse.Namespace) -> dict[str, Any]:
    command = f"python -m sweeps.run {CONFIG_MOUNT}/sweep.yaml --resume auto --address auto"
    return {
        "entrypoint": command,
        "submissionMode": "K8sJobMode",
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token"},
            # No lane on the head: a trial that takes its memory would end the driver with it.
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": _pod("ray-head", sweep, name, given, {}),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "lanes",
                    "replicas": given.nodes or 1,
                    "minReplicas": given.nodes or 1,
                    "maxReplicas": given.nodes or 1,
                    "rayStartParams": {},
                    "template": _pod("ray-worker", sweep, name, given, _limits(given)),
                }
            ],
        },
    }


def _pod(container: str, sweep: SweepConfig, name: str, given: argparse.Namespace, limits: dict[str, Any]) -> Any:
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": f"{name}-config"}}]
    mounts = [{"name": "config", "mountPath": CONFIG_MOUNT}]
    if given.claim:
        volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": given.claim}})
        mounts.append({"name": "shared", "mountPath": str(sweep.folder.parent)})
    resources = {"resources": {"limits": limits}} if limits else {}
    return {
        "spec": {
            "containers": [{"name": container, "image": given.image, **resources, "volumeMounts": mounts}],
            "volumes": volumes,
        }
    }


def _limits(given: argparse.Namespace) -> dict[str, Any]:
    asked = {"nvidia.com/gpu": given.gpus_per_node, "cpu": given.cpus_per_task}
    return {name: number for name, number in asked.items() if number}


def dns_name(name: str) -> str:
    """A name that Kubernetes takes, made of another."""
    # Kubernetes takes lower-case letters, digits and dashes; KubeRay adds to the name, so it stays under 47 characters.
    made = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:40].strip("-")
    return made or "sweep"
