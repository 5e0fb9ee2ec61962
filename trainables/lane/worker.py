"""The lane: a Ray Train worker that loads data and base model once and serves one job after another.

`lane_main` is the train function of a `TorchTrainer`. It never calls `ray.train.report`: Ray Train keeps checkpoints by
run, and a lane's run serves many trials.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import ray
import ray.train
import ray.train.torch
import torch

from trainables.config.trial_spec import LaneConfig
from trainables.lane.dispatcher_client import DispatcherClient, JobSource, Lease, WarningForwarder
from trainables.lane.jobs import run_job
from trainables.lane.store_sync import LaneStore
from trainables.lane.trial_job import Report, TrialJob
from trainables.lane.warm_state import LaneState
from trainables.optim.workers import SOLO, World
from trainables.reliability.preemption import Preemption
from trainables.reliability.watchdog import Watchdog
from trainables.tracking.wandb_run import close_service
from trainables.training.loop import Ended
from trainables.training.trial_run import TrialRun


def lane_main(config: dict[str, Any], incarnation: int) -> None:
    """Serve jobs until the dispatcher says stop or the node is preempted. Runs on every worker of the lane.

    Args:
        config: `settings` (a dumped `LaneConfig`), `dispatcher`, `namespace` and `lane`.
        incarnation: Number of this start of the lane, from the dispatcher.
    """
    settings = LaneConfig.model_validate(config["settings"])
    torch.set_num_threads(settings.threads)
    context = ray.train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    dispatcher: Any = ray.get_actor(config["dispatcher"], config["namespace"])
    settings, store = LaneStore.opened(settings, config["lane"], world.rank)
    client = DispatcherClient(dispatcher, config["lane"], incarnation) if world.rank == 0 else None
    preemption = Preemption(lambda: ray.train.get_preemption_info() is not None)
    lane_state = LaneState.load(settings, ray.train.torch.get_device(), world, store, preemption)
    if client:
        logging.getLogger("trainables").addHandler(WarningForwarder(client))
    job_source = JobSource(dispatcher, client)
    watchdog = Watchdog(settings.hung_after_seconds, client.hung if client else lambda text: None)
    if client:
        watchdog.start()
    try:
        while not lane_state.preemption.is_coming and (lease := job_source.next()):
            with watchdog.on_duty():
                serve(lane_state, job_source, lease)
        if client:
            client.leave()
    finally:
        close_service()


def serve(lane_state: LaneState, job_source: JobSource, lease: Lease) -> None:
    """Do a job; with a trial, also the waiting trials that fit into the lane's free slots."""
    if lease.is_trial:
        return SideBySide(lane_state, job_source).run(lease)
    try:
        lease.end(run_job(lane_state, lease.work))
    except Exception as error:
        lane_state.learn_from(error)
        lease.fail(error)
        # The other workers wait in a collective: the error must end them all, and Ray Train starts the lane again.
        if lane_state.world.size > 1:
            raise
        lane_state.recover()


class Closing(NamedTuple):
    """A trial that has ended and is not reported yet.

    Attributes:
        lease: The trial's lease.
        job: The trial; some of its files may not be written yet.
        end: Its end, or the error that ended it.
        shared: Whether the error ended several trials.
    """

    lease: Lease
    job: TrialJob
    end: Report | Exception
    shared: bool = False


class SideBySide:
    """Trains trials on a lane's slots, from a first one until none runs and none waits.

    Args:
        lane_state: The warm lane.
        job_source: Gives the waiting trials.
    """

    def __init__(self, lane_state: LaneState, job_source: JobSource) -> None:
        self.lane_state, self.job_source = lane_state, job_source
        self._jobs: dict[TrialRun, tuple[Lease, TrialJob]] = {}
        self._closing: list[Closing] = []

    def run(self, first: Lease) -> None:
        """Train the first trial and those that join; a free slot is filled before the next step."""
        self.lane_state.loop.set_slots(first.work.get("slots", 1))
        self._start(first)
        self._train()
        self._close(wait=True)

    def _train(self) -> None:
        while self._jobs:
            self._close(wait=False)
            while (
                self.lane_state.loop.free
                and not self.lane_state.preemption.is_coming
                and (lease := self.job_source.trial())
            ):
                self._start(lease)
            try:
                ended = self.lane_state.loop.step()
            except Exception as error:  # noqa: BLE001 - goes to the dispatcher, with every trial
                self._all_fail(error)
                return
            for end in ended:
                self._finish(end)

    def _start(self, lease: Lease) -> None:
        try:
            job = TrialJob(self.lane_state, lease.work, lease.report, lease.wants_stop, lease.is_interrupted)
            self.lane_state.loop.join(job.begin())
        except Exception as error:  # noqa: BLE001 - goes to the dispatcher, with the trial
            self._failed(lease, error)
        else:
            self._jobs[job.trial_run] = lease, job

    def _finish(self, end: Ended) -> None:
        lease, job = self._jobs.pop(end.trial_run)
        try:
            if end.error:
                raise end.error
            assert end.outcome is not None
            self._closing.append(Closing(lease, job, job.end(end.outcome)))
        except Exception as error:  # noqa: BLE001 - goes to the dispatcher, with the trial
            self._closing.append(Closing(lease, job, error))

    def _all_fail(self, error: Exception) -> None:
        # A step failed: if several trials shared it, none of them is known to be the cause.
        jobs, self._jobs = list(self._jobs.values()), {}
        self.lane_state.learn_from(error)
        self.lane_state.recover()
        self._closing += [Closing(lease, job, error, shared=len(jobs) > 1) for lease, job in jobs]

    def _close(self, wait: bool) -> None:
        # An end or error is reported only when all files are written, for then another lane may train the trial again
        # in the same folder. Meanwhile the other trials train on.
        for closing in [closing for closing in self._closing if wait or closing.job.pending.is_done]:
            self._closing.remove(closing)
            lease, job, end, shared = closing
            # A trial that has failed on this worker alone has left the others in its last pass.
            world = SOLO if isinstance(end, Exception) else self.lane_state.world
            try:
                with world.all_or_none():
                    job.pending.settle()
            except Exception as error:  # noqa: BLE001 - goes to the dispatcher, with the trial
                end = end if isinstance(end, Exception) else error
            if isinstance(end, Exception):
                job.failed()
                self._failed(lease, end, shared=shared)
            else:
                lease.end(end)

    def _failed(self, lease: Lease, error: Exception, *, shared: bool = False) -> None:
        lease.fail(error, shared=shared)
        if self.lane_state.world.size > 1:
            raise error
