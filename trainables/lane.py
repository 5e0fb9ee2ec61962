"""The lane: a Ray Train worker that stays warm and serves one job after another.

`lane_main` is the train function of a `TorchTrainer`. It loads the tokenised data and the base model once, then asks
the dispatcher for work until it is told to stop. It never calls `ray.train.report`: retention and checkpoints of a Ray
Train run are per run, and a lane's run serves many trials.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.train.collective import broadcast_from_rank_zero

from trainables.config import LaneConfig
from trainables.jobs import Bench, Report, run_job
from trainables.optimise import World
from trainables.tracking import close_service

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
ERROR_TAIL_LINES = 30


class Desk:
    """Rank 0's line to the dispatcher: jobs in, reports out, and a flag that says when to drop the job at hand.

    Args:
        dispatcher: Name of the dispatcher's actor.
        namespace: Ray namespace of that actor.
        lane: Name of this lane.
        incarnation: Which start of the lane this is; a later start has a higher one.
    """

    def __init__(self, dispatcher: str, namespace: str, lane: str, incarnation: int) -> None:
        self.actor = ray.get_actor(dispatcher, namespace)
        self.lane, self.incarnation = lane, incarnation
        self.stop = threading.Event()
        self.held: tuple[str, int] | None = None

    def take(self, seq: int) -> dict[str, Any]:
        """The next job, "wait" or "stop"; see `sweeps.dispatcher.Dispatcher.take`."""
        answer: Any = ray.get(self.actor.take.remote(self.lane, self.incarnation, seq, POLL_SECONDS))
        return answer

    def work_of(self, job_id: str) -> dict[str, Any]:
        """What is to be done for a job."""
        work: Any = ray.get(self.actor.work_of.remote(job_id))
        return work

    def post(self, job_id: str, attempt: int, report: Report, *, wait: bool = True) -> None:
        """Sends a report. `wait=False` returns at once: progress is for the live view and may come late."""
        answer: Any = self.actor.post.remote(self.lane, self.incarnation, job_id, attempt, report)
        if wait and not ray.get(answer):
            self.stop.set()

    def hold(self, job_id: str, attempt: int) -> threading.Thread:
        """Clears the stop flag and watches, in a thread, for the job's cancellation; `release` ends the watch."""
        self.stop.clear()
        self.held = (job_id, attempt)
        thread = threading.Thread(target=self._watch, args=(job_id, attempt), daemon=True)
        thread.start()
        return thread

    def release(self) -> None:
        """The job is done; the watch ends with its current call."""
        self.held = None

    def _watch(self, job_id: str, attempt: int) -> None:
        while self.held == (job_id, attempt):
            call: Any = self.actor.watch.remote(self.lane, self.incarnation, job_id, attempt, POLL_SECONDS)
            if ray.get(call) and self.held == (job_id, attempt):
                self.stop.set()
                return


class Notices(logging.Handler):
    """Sends warnings of this process to the dispatcher, and so to the user's terminal."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(logging.WARNING)
        self.desk = desk

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one warning."""
        self.desk.post("", 0, {"kind": "notice", "text": record.getMessage()}, wait=False)


def lane_main(config: dict[str, Any], incarnation: int) -> None:
    """Serves jobs until the dispatcher says stop. Runs on every worker of the lane.

    Args:
        config: `settings` (a dumped `LaneConfig`), `dispatcher`, `namespace` and `lane`.
        incarnation: Which start of the lane this is, as announced to the dispatcher.
    """
    settings = LaneConfig.model_validate(config["settings"])
    torch.set_num_threads(settings.threads)
    context = ray.train.get_context()
    world = World(rank=context.get_world_rank(), size=context.get_world_size())
    desk = Desk(config["dispatcher"], config["namespace"], config["lane"], incarnation) if world.rank == 0 else None
    bench = Bench.load(settings, ray.train.torch.get_device(), world)
    if desk:
        logging.getLogger("trainables").addHandler(Notices(desk))
    try:
        for job_id, attempt in jobs(desk):
            serve(bench, desk, job_id, attempt, _work(desk, config, job_id))
    finally:
        close_service()


def jobs(desk: Desk | None) -> Iterator[tuple[str, int]]:
    """The lane's jobs, the same on every rank: rank 0 asks, the others learn the job's id by broadcast.

    The broadcast goes through Ray, not through torch: a torch collective would time out in an idle lane.
    """
    seq = 0
    while True:
        answer = desk.take(seq) if desk else None
        if ray.train.get_context().get_world_size() > 1:
            answer = broadcast_from_rank_zero(answer)
        assert answer is not None
        if answer["do"] == "stop":
            return
        if answer["do"] == "work":
            seq += 1
            yield answer["job_id"], answer["attempt"]


def serve(bench: Bench, desk: Desk | None, job_id: str, attempt: int, work: dict[str, Any]) -> None:
    """Does one job and posts how it ended. An error of a job ends the job, not the lane, if the lane has one worker.

    With several workers an error on one leaves the others waiting in a collective: there it ends them all, and Ray
    Train starts the lane again.
    """
    if desk:
        desk.hold(job_id, attempt)

    def report(message: Report) -> None:
        if desk:
            desk.post(job_id, attempt, message, wait=message["kind"] != "progress")

    try:
        end = run_job(bench, work, report, should_stop=desk.stop.is_set if desk else lambda: False)
        report({"kind": "end", "end": end})
    except Exception:
        text = "".join(traceback.format_exc().splitlines(keepends=True)[-ERROR_TAIL_LINES:])
        logger.exception("job %s failed", job_id)
        report({"kind": "error", "error": text})
        if bench.world.size > 1:
            raise
        bench.recover()
    finally:
        if desk:
            desk.release()


def _work(desk: Desk | None, config: dict[str, Any], job_id: str) -> dict[str, Any]:
    if desk:
        return desk.work_of(job_id)
    work: Any = ray.get(ray.get_actor(config["dispatcher"], config["namespace"]).work_of.remote(job_id))
    return work
