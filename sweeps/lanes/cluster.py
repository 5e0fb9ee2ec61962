"""The Ray cluster of a sweep: a local one of its own, or one that is already up."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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
# Of those, what workers read. Those of a local cluster inherit it; to nodes that are up already it is sent.
WORKER_SETTINGS = ("GOMP_SPINCOUNT", "PYTORCH_ALLOC_CONF")
for _name, _value in RAY_SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402

from sweeps.config.sections import ResourcesConfig  # noqa: E402
from sweeps.lanes.surroundings import joinable, provide_token, temporary_folder, tight_limits  # noqa: E402
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

    def words(self) -> str:
        """One line for the user."""
        many = "1 trial" if self.lanes == 1 else f"{self.lanes} trials"
        gpus, cores = self.workers, self.workers * self.cpus
        each = " each" if self.lanes > 1 else ""
        if self.use_gpu:
            return f"running {many} at a time on {gpus} GPU{'s' if gpus > 1 else ''}{each}"
        return f"running {many} at a time on {cores} CPU core{'s' if cores > 1 else ''}{each} (no GPU found)"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Starts a local Ray cluster, or joins the one at `address` and ships this project's packages to it.

    Raises:
        UserError: There is no cluster at `address`, it is of another version, or this machine can't start one.
    """
    with ExitStack() as stack:
        if address is None:
            # Workers inherit PYTHONPATH: they find this project, and the user's modules in the current folder.
            paths = [str(PROJECT_ROOT), os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
            provide_token()
            # Without the dashboard's agent, a killed Train controller leaks its placement group.
            # Without "local", Ray would join any cluster that runs on this machine.
            options: dict[str, Any] = {"address": "local", "include_dashboard": True}
            if short := stack.enter_context(temporary_folder()):
                options["_temp_dir"] = short
        else:
            packages = [str(PROJECT_ROOT / name) for name in PACKAGES]
            settings = {name: os.environ[name] for name in WORKER_SETTINGS if name in os.environ}
            environment = {"py_modules": packages, "env_vars": settings}
            options = {"address": _joined(address), "runtime_env": environment}
        close_token_file()
        try:
            with _without_hangups():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE, **options)
        except Exception as error:
            known = _start_error(error) if address is None else _join_error(error, address)
            if known is None:
                raise
            raise known from error
        close_token_file()  # again: Ray may have written the token just now
        stack.callback(ray.shutdown)
        yield


def _joined(address: str) -> str:
    found = joinable(address)
    if address != "auto":
        return found
    # Named so, and not by the argument, Ray still looks for this machine's token.
    os.environ["RAY_ADDRESS"] = found
    return address


def _join_error(error: Exception, address: str) -> UserError | None:
    """The line for an error of Ray's while a cluster was joined; None for one that it is not known to raise."""
    text = "\n".join(str(cause) for cause in _causes(error))
    versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", text)
    if "Version mismatch" in text and len(versions) == 2:
        (theirs, their_python), (ours, our_python) = versions
        got = f"Ray {theirs} with Python {their_python} there, Ray {ours} with Python {our_python} here"
        remedy = f"install ray=={theirs} here, or start the cluster with ray=={ours}, and the same Python"
        return UserError("--address", "the cluster must run this release of Ray", got, remedy)
    if any(word in text for word in ("AuthToken", "nauthenticated", "uthentication")):
        remedy = (
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token to the cluster's (ray get-auth-token)"
        )
        return UserError("--address", "the cluster must accept this machine's token", _first_line(text), remedy)
    if isinstance(error, ConnectionError):
        asks = "" if os.environ.get("RAY_AUTH_MODE") else "; if it asks for a token, as Ray's do by default: "
        remedy = f"see that it runs{asks}{'set RAY_AUTH_MODE=token' if asks else ''}"
        return UserError("--address", "a Ray cluster must answer there", f"{address}: {_first_line(text)}", remedy)
    return None


def _start_error(error: Exception) -> UserError | None:
    """The line for an error of Ray's while a local cluster started; None where the surroundings are not to blame."""
    limits, lift = tight_limits()
    if limits and (TOO_LATE in str(error) or isinstance(error, OSError | MemoryError | RuntimeError)):
        return UserError("Ray", "needs more than the limits of this shell", limits, f"lift them: {lift}")
    if TOO_LATE in str(error):
        return UserError("Ray", "must be up within its 30 s", "a machine too busy for it", "run it again later")
    if isinstance(error, OSError):
        got = f"{type(error).__name__}: {_first_line(str(error))}"
        return UserError("Ray", "must be able to start on this machine", got, "mend that, or join a cluster: --address")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")[:300]


@contextmanager
def _without_hangups() -> Iterator[None]:
    """Blocks SIGHUP meanwhile, for this thread and all that it starts: Ray's processes must outlive a closed terminal.

    The driver gets it afterwards, and ends the sweep in order, for which it needs them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def close_token_file() -> None:
    """Makes the token of Ray's clusters readable only to its owner."""
    # Ray leaves the file's mode to the umask. A home that can't be read or written holds no token of ours.
    with suppress(OSError, RuntimeError):
        token = Path.home() / ".ray" / "auth_token"
        if token.exists():
            token.chmod(0o600)


def hardware() -> dict[str, Any]:
    """Nodes, CPUs, GPUs and accelerator types of the cluster, for the manifest."""
    total = ray.cluster_resources()
    kinds = sorted(name.removeprefix("accelerator_type:") for name in total if name.startswith("accelerator_type:"))
    nodes = sum(node["Alive"] for node in ray.nodes())
    return {"nodes": nodes, "cluster_cpus": total.get("CPU", 0), "gpus": total.get("GPU", 0), "accelerators": kinds}


def waiting_words(plan: LanePlan) -> str:
    """What the user is told while no lane is up: what one asks for, and what of it is free."""
    pending = any(group["state"] == "PENDING" for group in ray.util.placement_group_table().values())
    if not pending:
        return "no worker is up yet: one is starting"
    return _waiting(plan, ray.available_resources())


def _waiting(plan: LanePlan, free: dict[str, float]) -> str:
    asked = {"GPU": plan.workers if plan.use_gpu else 0, "CPU": plan.workers * plan.cpus}
    words = [f"{n} {kind}{'s' if n > 1 else ''}, {free.get(kind, 0):g} free" for kind, n in asked.items() if n]
    return f"waiting for {' and '.join(words)}: training starts when they are; nothing is spent meanwhile"


def alive_nodes() -> list[dict[str, float]]:
    """Resources of each node that is up."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room_for(nodes: list[dict[str, float]], plan: LanePlan) -> int:
    """Number of lanes of the plan's kind that the nodes hold; lanes over several nodes only where no node holds one."""
    return _lanes_of(_workers_on(nodes, plan), plan.workers)


def stay_within_nodes(nodes: list[dict[str, float]], plan: LanePlan) -> bool:
    """Whether the nodes hold all lanes of the plan, each on one node."""
    return sum(each // plan.workers for each in _workers_on(nodes, plan)) >= plan.lanes


def _workers_on(nodes: list[dict[str, float]], plan: LanePlan) -> list[int]:
    """Number of workers of the plan's kind that each node holds."""
    cpus = [int(node.get("CPU", 0)) // plan.cpus for node in nodes]
    return [
        min(int(node.get("GPU", 0)), fits) if plan.use_gpu else fits for node, fits in zip(nodes, cpus, strict=True)
    ]


def _lanes_of(held: list[int], workers: int) -> int:
    # A step is only as fast as the slowest link between a trial's workers: the network is used where there is no other.
    return sum(each // workers for each in held) or sum(held) // workers


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
            "the cluster must have a node for workers",
            f"{len(nodes)} node(s) without GPU or CPU",
            "wait until one is up, or raise min_workers of its type",
        )
    if gpus:
        held = [int(node.get("GPU", 0)) for node in nodes]
        each = max(1, min(8, cpus // gpus)) if resources.cpus_per_worker == "auto" else resources.cpus_per_worker
        unit = "GPUs"
    else:
        each = _cpus_of_worker([int(node.get("CPU", 0)) for node in nodes], resources)
        held = [int(node.get("CPU", 0)) // each for node in nodes]
        unit = "CPUs"
    # A number that is asked for may need lanes that stretch over nodes.
    fits = _lanes_of(held, workers) if resources.lanes == "auto" else sum(held) // workers
    lanes = fits if resources.lanes == "auto" else resources.lanes
    if lanes < 1 or (lanes > fits and not may_grow):
        have = gpus if gpus else cpus
        raise UserError(
            "resources",
            f"lanes x workers_per_lane must fit the cluster's {have} {unit}",
            f"lanes={resources.lanes} workers_per_lane={workers} cpus_per_worker={resources.cpus_per_worker}",
            f"at most {fits} such workers fit; lower one of them",
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
