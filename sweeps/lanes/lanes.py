"""Runs the lanes of a sweep: Ray Train runs around one dispatcher actor."""

from __future__ import annotations

import errno
import itertools
import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.lanes.cluster import NAMESPACE, LanePlan, alive_nodes, room_for, stay_within_nodes
from sweeps.lanes.dispatcher_actor import DispatcherActor
from sweeps.lanes.lane_share import LaneNeeds, LaneShare
from sweeps.lanes.worker_failures import LostWorkers
from trainables.config.trial_spec import LaneConfig
from trainables.lane.messages import EndedJob, NoticeReport, Status, Work

logger = logging.getLogger(__name__)

IDLE_INCARNATIONS_ALLOWED = 3
STOP_SECONDS = 30.0
POLL_SECONDS = 5.0
LOOK_FOR_NODES_SECONDS = 3.0
LOOK_FOR_SHARE_SECONDS = 1.0


class LanesFailedError(RuntimeError):
    """Lanes end repeatedly without work."""


@dataclass
class Lanes:
    """The running lanes of one sweep."""

    dispatcher: Any  # handle of the actor
    name: str  # of the actor: trials and lanes find it by this name
    scratch: Path  # local folder for Ray Tune's and Ray Train's own files, which nothing reads
    plan: LanePlan
    settings: LaneConfig
    grows: bool  # whether a node that joins gets lanes
    share: LaneShare | None = None  # of a cluster that several sweeps share
    needed: int | None = None  # lanes for which there is work, as the supervisor last saw it; None for all
    threads: list[threading.Thread] = field(default_factory=list)  # one for each lane, in `TorchTrainer.fit()`
    errors: list[str] = field(default_factory=list)  # of lanes whose run failed
    _submitted: dict[str, Work] = field(default_factory=dict)
    _cancelled: dict[str, str] = field(default_factory=dict)
    _over: dict[str, EndedJob] = field(default_factory=dict)
    _released: set[str] = field(default_factory=set)  # lanes given back, or about to be
    _stopping: threading.Event = field(default_factory=threading.Event)
    _status: Status = field(
        default_factory=lambda: Status(jobs={}, lanes={}, notices=[], born=0, changes=0, disk_full=None)
    )
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def call(self, method: str, *args: Any) -> Any:
        """Calls the dispatcher and waits for its answer."""
        return ray.get(getattr(self.dispatcher, method).remote(*args))

    @property
    def up(self) -> int:
        """Number of lanes that can train, as of the last `status`; others wait for a node."""
        return sum(lane["up"] for lane in self._status["lanes"].values())

    def start_lane(self) -> None:
        """Adds a lane. It comes up when Ray has resources for it, which an autoscaler may have to add first."""
        lane = f"lane-{len(self.threads)}"
        thread = threading.Thread(target=_serve, args=(self, lane), daemon=True, name=lane)
        self.threads.append(thread)
        thread.start()

    def follow(self) -> None:
        """Starts lanes on nodes that join, and holds no more than the sweep's share, until the sweep ends."""
        while not self._stopping.wait(LOOK_FOR_SHARE_SECONDS if self.share else LOOK_FOR_NODES_SECONDS):
            room = room_for(alive_nodes(), self.plan)
            self._hold(room if self.grows else self.plan.lanes, room)

    def _hold(self, most: int, room: int) -> None:
        """Starts or gives back lanes; `room` is what the whole cluster holds of their kind."""
        held = [thread for thread in self.threads if thread.name not in self._released]
        if self.share:
            needed = most if self.needed is None else min(most, self.needed)
            self.share.tell(LaneNeeds(room, needed))
            most = min(most, self.share.target)
            self._give_back([thread.name for thread in held], len(held) - most)
        # A lane that lost its node still runs and waits: a node that joins is for that lane.
        lanes = self._status["lanes"]
        up = sum(thread.name in lanes and lanes[thread.name]["up"] for thread in held)
        if sum(thread.is_alive() for thread in held) <= up:
            for _ in range(most - len(held)):
                self.start_lane()

    def _give_back(self, held: list[str], number: int) -> None:
        if number > 0:
            lanes, jobs = self._status["lanes"], self._status["jobs"].values()
            busy = {job["lane"] for job in jobs if job["state"] == "running"}
            # Those first that have not come up, then the idle ones: they lose no time.
            held.sort(key=lambda lane: (lane in lanes and lanes[lane]["up"], lane in busy))
            self._released.update(held[:number])
        # Again until they have ended: a dispatcher that was restarted has forgotten it.
        if leaving := [each.name for each in self.threads if each.name in self._released and each.is_alive()]:
            self.call("release", leaving)

    def submit(self, job_id: str, work: Work) -> None:
        """Queues a job of the driver's own, and again after a restart of the dispatcher."""
        self._submitted[job_id] = work
        self.call("submit", job_id, work)

    def cancel(self, job_id: str, why: str) -> None:
        """Stops a job; `why` becomes its end state."""
        self._cancelled[job_id] = why
        self.call("cancel", job_id, why)

    def over(self, job: EndedJob) -> None:
        """Remembers a finished job, so that a restarted dispatcher does not run it again."""
        self._submitted.pop(job["job_id"], None)
        self._cancelled.pop(job["job_id"], None)
        self._over[job["job_id"]] = job

    def status(self) -> Status:
        """Returns the state of every job and lane.

        Must be called regularly: it notices a restart of the dispatcher and gives it back what it has forgotten.
        """
        with self._asking:
            before = self._status
            now: Status = self.call("status", before["born"], before["changes"])
            if now["born"] != before["born"]:
                self.call("recall", dict(self._submitted), dict(self._cancelled), list(self._over.values()))
            kept = before["jobs"] if now["born"] == before["born"] else {}
            self._status = {**now, "jobs": {**kept, **now["jobs"]}}  # `now` only holds jobs that have changed
            return self._status

    def check(self, status: Status) -> None:
        """Raises where lanes can't work.

        Raises:
            LanesFailedError: A lane came up several times without doing anything, or all lanes have ended.
            OSError: The disk of a lane is full.
        """
        if full := status.get("disk_full"):
            raise OSError(errno.ENOSPC, full["reason"], full["file"])
        stuck = [n for n, lane in status["lanes"].items() if lane["idle_incarnations"] >= IDLE_INCARNATIONS_ALLOWED]
        ended = self.threads and not any(thread.is_alive() for thread in self.threads)
        if stuck or ended:
            warnings = [notice["text"] for notice in status["notices"] if notice["level"] == "warning"]
            causes = warnings[-1:] or self.errors[-1:] or ["no cause was reported"]
            raise LanesFailedError(f"{', '.join(stuck) or 'all workers'} stopped without work: {causes[0]}")

    def drain(self) -> None:
        """Waits at most `STOP_SECONDS` until every job has ended: a cancelled one ends after the step in flight."""
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not self.call("drain", POLL_SECONDS):
            pass

    def stop(self) -> None:
        """Cancels every job, ends the lanes and waits for them for at most `STOP_SECONDS`."""
        self._stopping.set()
        self.call("stop")
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        ray.kill(self.dispatcher)


@contextmanager
def running(
    plan: LanePlan, settings: LaneConfig, max_failures: int, *, grows: bool = False, share: LaneShare | None = None
) -> Iterator[Lanes]:
    """Starts the dispatcher and every lane, and ends them on exit; `Lanes.check` raises where lanes can't come up.

    Args:
        plan: Number of lanes, and resources of each.
        settings: For every lane.
        max_failures: How often the dispatcher tries a job again.
        grows: Whether nodes that join the cluster get lanes.
        share: Says how many lanes the sweep may hold; None for as many as planned.
    """
    name = f"dispatcher-{uuid.uuid4().hex[:12]}"
    # On the driver's node: others may leave. It restarts and repeats calls without limit; every call allows that.
    head = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(DispatcherActor).options(
        name=name,
        namespace=NAMESPACE,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=head,
    )
    with tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as scratch:
        lanes = Lanes(actor.remote(max_failures), name, Path(scratch), plan, settings, grows, share)
        for _ in range(min(plan.lanes, share.target) if share else plan.lanes):
            lanes.start_lane()
        if grows or share:
            threading.Thread(target=lanes.follow, daemon=True, name="follow").start()
        try:
            yield lanes
        finally:
            lanes.stop()


def _serve(lanes: Lanes, lane: str) -> None:
    """Runs one lane until the sweep ends, on a thread of the driver."""
    # Ray Train restarts dead workers but not its own controller, so a lost controller gets a new run here. It gives up
    # after some starts in a row without the lane coming up. A lane that left with its node gets a new run too.
    lost_before, in_a_row = -1, 0
    for run in itertools.count():
        try:
            _trainer(lanes, lane, f"{lane}-{run}").fit()
            if lanes._stopping.is_set() or lane in lanes._released:
                return
        except ray.exceptions.RayActorError as error:
            if lanes._stopping.is_set():
                return
            lost = lanes.call("lost", lane)
            if lane in lanes._released:
                return
            in_a_row, lost_before = (in_a_row + 1 if lost == lost_before else 1), lost
            logger.warning("%s is started again: its controller was lost (%s)", lane, str(error).splitlines()[0])
            if in_a_row >= IDLE_INCARNATIONS_ALLOWED:
                lanes.errors.append(f"{lane}: {error}")
                return
        except Exception as error:  # noqa: BLE001 - a lane's end of any kind is reported by `check`, not lost in a thread
            lanes.errors.append(f"{lane}: {error}")
            logger.warning("%s stopped: %s", lane, error)
            return


def _trainer(lanes: Lanes, lane: str, name: str) -> TorchTrainer:
    plan = lanes.plan
    return TorchTrainer(
        _lane_main,
        train_loop_config={
            "settings": lanes.settings.model_dump(),
            "dispatcher": lanes.name,
            "namespace": NAMESPACE,
            "lane": lane,
        },
        scaling_config=ScalingConfig(
            num_workers=plan.workers,
            use_gpu=plan.use_gpu,
            resources_per_worker={"CPU": plan.cpus, **({"GPU": 1} if plan.use_gpu else {})},
            # Asked at each start: nodes may have come meanwhile.
            placement_strategy="STRICT_PACK" if stay_within_nodes(alive_nodes(), plan) else "PACK",
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(lanes.scratch),
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[LostWorkers(lanes.name, NAMESPACE, lane)],  # type: ignore[list-item]  # Ray types the old kind
        ),
    )


def _lane_main(config: dict[str, Any]) -> None:
    context = ray.train.get_context()
    first = context.get_world_rank() == 0
    dispatcher: Any = ray.get_actor(config["dispatcher"], config["namespace"])
    lane = config["lane"]
    # Joins before it imports torch, so that a start that fails is counted as an idle incarnation.
    incarnation: Any = ray.get(dispatcher.join.remote(lane, uuid.uuid4().hex)) if first else None
    if context.get_world_size() > 1:
        incarnation = broadcast_from_rank_zero(incarnation)
    if not incarnation:
        return
    try:
        from trainables.lane.worker import lane_main

        lane_main(config, incarnation)
    except Exception as error:
        if first:
            text = f"{lane} ended: {type(error).__name__}: {error}"
            notice: NoticeReport = {"kind": "notice", "level": "warning", "text": text}
            ray.get(dispatcher.post.remote(lane, incarnation, "", 0, notice))
        raise
