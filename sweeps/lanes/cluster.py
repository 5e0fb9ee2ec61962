"""The Ray cluster of a sweep: a local one of its own, or one that is already up."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Set before Ray is imported: Ray reads them once.
RAY_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger and the curves are ours; Tune's CSVs would only repeat them
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `sweeps.run` has its own: Tune's lets `fit()` return as if all were well
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",  # trials wait for a lane in the dispatcher, not in Tune
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the config stay valid
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a lost worker is noticed at once
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # on a busy machine a lane came up only after 130 s
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Spinning threads of GNU OpenMP starve each other when another process takes a CPU. Seconds per LoRA step of the
    # demo model, on two free CPUs and on two with one taken: by default 1.8 and 20, with this 1.9 and 4.7.
    "GOMP_SPINCOUNT": "5000",
    # Batches of ever another size leave gaps in a GPU's memory, between segments of fixed sizes: these can grow.
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
for _name, _value in RAY_SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

from sweeps.config.sections import ResourcesConfig  # noqa: E402
from trainables.errors import UserError  # noqa: E402
from trainables.project import PACKAGES, PROJECT_ROOT  # noqa: E402

NAMESPACE = "llm-sweeps"
# Ray 2.60 raises a bare `Exception` with this text when its own processes need more than the 30 s that it gives them.
TOO_LATE = "timed out during startup"


@dataclass(frozen=True)
class LanePlan:
    """Division of the cluster: `lanes` lanes of `workers` workers, each with `cpus` CPUs and, if `use_gpu`, a GPU."""

    lanes: int
    workers: int
    use_gpu: bool
    cpus: int

    @property
    def devices(self) -> int:
        """Number of GPUs, or of CPU workers, of all lanes."""
        return self.lanes * self.workers

    def words(self) -> str:
        """One line for the user."""
        what = "GPU" if self.use_gpu else "CPU"
        note = "" if self.use_gpu else " (no GPU found)"
        plural = "s" if self.lanes > 1 else ""
        return f"{self.lanes} {what} lane{plural} of {self.workers} worker(s) × {self.cpus} CPU(s){note}"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Starts a local Ray cluster, or joins the one at `address` and ships this project's packages to it.

    Raises:
        UserError: There is no cluster at `address`, or this machine is too busy to start one.
    """
    if address is None:
        # Workers inherit PYTHONPATH: they find this project, and the user's modules in the current folder.
        paths = [str(PROJECT_ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        # Without the dashboard's agent, a killed Train controller leaks its placement group.
        # Without "local", Ray would join any cluster that runs on this machine.
        options: dict[str, Any] = {"address": "local", "include_dashboard": True}
    else:
        packages = [str(PROJECT_ROOT / name) for name in PACKAGES]
        options = {"address": address, "runtime_env": {"py_modules": packages}}
    close_token_file()
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE, **options)
    except ConnectionError as error:
        raise UserError("--address", "a Ray cluster must answer there", address, str(error)) from None
    except Exception as error:
        if TOO_LATE not in str(error):
            raise
        raise UserError(
            "Ray", "must be up within its 30 s", "a machine too busy for it", "run it again later"
        ) from error
    close_token_file()  # again: Ray may have written the token just now
    try:
        yield
    finally:
        ray.shutdown()


def close_token_file() -> None:
    """Makes the token of Ray's clusters readable only to its owner."""
    # Ray leaves the file's mode to the umask.
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)


def hardware() -> dict[str, Any]:
    """Nodes, CPUs, GPUs and accelerator types of the cluster, for the manifest."""
    total = ray.cluster_resources()
    kinds = sorted(name.removeprefix("accelerator_type:") for name in total if name.startswith("accelerator_type:"))
    nodes = sum(node["Alive"] for node in ray.nodes())
    return {"nodes": nodes, "cluster_cpus": total.get("CPU", 0), "gpus": total.get("GPU", 0), "accelerators": kinds}


def alive_nodes() -> list[dict[str, float]]:
    """Resources of each node that is up."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room_for(nodes: list[dict[str, float]], plan: LanePlan) -> int:
    """Number of lanes of the plan's kind that the nodes hold, the running ones included."""
    cpus = [int(node.get("CPU", 0)) // plan.cpus for node in nodes]
    if not plan.use_gpu:
        return sum(cpus) // plan.workers
    return sum(min(int(node.get("GPU", 0)), fits) for node, fits in zip(nodes, cpus, strict=True)) // plan.workers


def plan_lanes(resources: ResourcesConfig, *, may_grow: bool = False) -> LanePlan:
    """Divides the cluster into lanes.

    Args:
        resources: The config's section.
        may_grow: Allows more lanes than the nodes hold now.

    Raises:
        UserError: The cluster has fewer GPUs or CPUs than the config asks for.
    """
    return divide(alive_nodes(), resources, may_grow=may_grow)


def divide(nodes: list[dict[str, float]], resources: ResourcesConfig, *, may_grow: bool = False) -> LanePlan:
    """`plan_lanes` for given nodes, each a mapping with "CPU" and "GPU" counts."""
    workers = resources.workers_per_lane
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    cpus = int(sum(node.get("CPU", 0) for node in nodes))
    if not gpus and not cpus:
        raise UserError(
            "--address",
            "the cluster must have a node for lanes",
            f"{len(nodes)} node(s) without GPU or CPU",
            "wait until one is up, or raise min_workers of its type",
        )
    if gpus:
        fits = gpus // workers
        each = max(1, min(8, cpus // gpus)) if resources.cpus_per_worker == "auto" else resources.cpus_per_worker
        unit = "GPUs"
    else:
        each = _cpus_of_worker([int(node.get("CPU", 0)) for node in nodes], resources)
        fits = sum(int(node.get("CPU", 0)) // each for node in nodes) // workers
        unit = "CPUs"
    lanes = fits if resources.lanes == "auto" else resources.lanes
    if lanes < 1 or (lanes > fits and not may_grow):
        have = gpus if gpus else cpus
        raise UserError(
            "resources",
            f"lanes x workers_per_lane must fit the cluster's {have} {unit}",
            f"lanes={resources.lanes} workers_per_lane={workers} cpus_per_worker={resources.cpus_per_worker}",
            f"at most {fits} such lanes fit; lower one of them",
        )
    return LanePlan(lanes=lanes, workers=workers, use_gpu=bool(gpus), cpus=each)


def _cpus_of_worker(node_cpus: list[int], resources: ResourcesConfig) -> int:
    # Without a GPU a lane takes a whole node: two trials at once on the same cores gain nothing. A number of lanes that
    # is asked for shares the cores evenly.
    if resources.cpus_per_worker != "auto":
        return resources.cpus_per_worker
    smallest = min(cpus for cpus in node_cpus if cpus)
    if resources.lanes == "auto":
        return max(1, smallest // resources.workers_per_lane)
    return max(1, min(smallest, sum(node_cpus) // (resources.lanes * resources.workers_per_lane)))
