"""The lane: a Ray Train worker that stays warm and serves one job after another.

`lane_main` is the train function of a `TorchTrainer`. It loads the tokenized data and the base model once, then asks
the dispatcher for work until it is told to stop. It never calls `ray.train.report`: retention and checkpoints of a Ray
Train run are per run, and a lane's run serves many trials.
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
from trainables.optim.workers import World
from trainables.reliability.preemption import Preemption
from trainables.reliability.watchdog import Watchdog
from trainables.tracking.wandb_run import close_service
from trainables.training.loop import Ended
from trainables.training.trial_run import TrialRun


def lane_main(config: dict[str, Any], incarnation: int) -> None:
    """Serves jobs until the dispatcher says stop, or the node is to go. Runs on every worker of the lane.

    Args:
        config: `settings` (a dumped `LaneConfig`), `dispatcher`, `namespace` and `lane`.
        incarnation: Which start of the lane this is, as announced to the dispatcher.
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
    """Does a job; beside a trial also the trials that wait for the lane's free slots.

    An error of a job ends the job, not the lane, if the lane has one worker. With several an error on one leaves the
    others waiting in a collective: there it ends them all, and Ray Train starts the lane again.
    """
    if lease.is_trial:
        return SideBySide(lane_state, job_source).run(lease)
    try:
        lease.end(run_job(lane_state, lease.work))
    except Exception as error:
        lease.fail(error)
        if lane_state.world.size > 1:
            raise
        lane_state.recover()


class Closing(NamedTuple):
    """A trial that has ended and is not reported yet.

    Attributes:
        lease: Its lease.
        job: It; its files may not be written to their ends.
        end: Its line, or the error that it ended by.
        shared: Whether that was an error of several trials.
    """

    lease: Lease
    job: TrialJob
    end: Report | Exception
    shared: bool = False


class SideBySide:
    """Trials on a lane's slots: from the first until none is left and none waits.

    Args:
        lane_state: The warm lane.
        job_source: Where waiting trials come from.
    """

    def __init__(self, lane_state: LaneState, job_source: JobSource) -> None:
        self.lane_state, self.job_source = lane_state, job_source
        self._jobs: dict[TrialRun, tuple[Lease, TrialJob]] = {}
        self._closing: list[Closing] = []

    def run(self, first: Lease) -> None:
        """Trains; a slot that gets free is filled at once, at that trial's own first step."""
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
            job = TrialJob.of(self.lane_state, lease.work, lease.report, lease.wants_stop)
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
        """A step went wrong: whose fault it was is not known where several trials shared it."""
        jobs, self._jobs = list(self._jobs.values()), {}
        self.lane_state.recover()
        self._closing += [Closing(lease, job, error, shared=len(jobs) > 1) for lease, job in jobs]

    def _close(self, wait: bool) -> None:
        """Reports trials that have ended: one whose files are all written, with an error if that went wrong.

        Not before, whatever the end: another lane may then train it again, in the same place. Nor do the other trials
        wait for it.
        """
        for closing in [closing for closing in self._closing if wait or closing.job.pending.is_done]:
            self._closing.remove(closing)
            lease, job, end, shared = closing
            try:
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
