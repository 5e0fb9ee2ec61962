"""The lane's line to the dispatcher: jobs come in, reports go out, and each job says whether it is to be dropped."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from typing import Any

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero

from trainables.errors import DISK_FULL, os_error
from trainables.lane.trial_job import Report
from trainables.reliability import fault_injection

logger = logging.getLogger(__name__)

POLL_SECONDS = 20.0
ERROR_TAIL_LINES = 30
LOG_TAIL_LINES = 10
HUNG_SECONDS = 10.0


class Lease:
    """A job that this lane holds.

    Args:
        client: The line to the dispatcher; None on workers that are not rank 0.
        job_id: The job.
        attempt: Which attempt at it this is.
        work: What is to be done.
    """

    def __init__(self, client: DispatcherClient | None, job_id: str, attempt: int, work: dict[str, Any]) -> None:
        self.job_id, self.attempt, self.work = job_id, attempt, work
        self._desk = client
        self._stop, self._released = threading.Event(), False
        if client:
            client.leases.append(self)
            threading.Thread(target=self._watch, args=(client,), daemon=True).start()

    @property
    def is_trial(self) -> bool:
        """Whether the job is a trial, which others can be trained beside."""
        return bool(self.work["do"] == "trial")

    def wants_stop(self) -> bool:
        """Whether the dispatcher said to drop the job."""
        return self._stop.is_set()

    def report(self, message: Report) -> None:
        """Sends a report. Progress is not waited for: it is for the live view and may come late."""
        if self._desk:
            wait = message["kind"] != "progress"
            if not self._desk.post(self.job_id, self.attempt, message, wait=wait):
                self._stop.set()

    def end(self, end: Report) -> None:
        """The job is done."""
        self.report({"kind": "end", "end": end})
        self._released = True  # the watch ends with its current call
        if self._desk:
            self._desk.leases.remove(self)

    def fail(self, error: BaseException, *, shared: bool = False) -> None:
        """The job ended by an error.

        Args:
            error: What went wrong.
            shared: It went wrong in a step that several jobs shared: it may not be this one's fault.
        """
        text = "".join(traceback.format_exception(error)).splitlines(keepends=True)[-ERROR_TAIL_LINES:]
        logged = self._desk.log_tail() if self._desk else ""
        logger.error("job %s failed", self.job_id, exc_info=error)
        report = {"kind": "error", "error": logged + "".join(text), "shared": shared}
        if full := os_error(error, DISK_FULL):
            # No fault of the job's: the dispatcher keeps the job for a resumed sweep, and the driver ends this one.
            report["disk_full"] = {"file": full.filename, "reason": full.strerror}
        self.report(report)
        self._released = True
        if self._desk:
            self._desk.leases.remove(self)

    def hung(self, text: str, *, shared: bool) -> None:
        """Nothing gets done any more for the job, nor for others of this process, which is about to end."""
        self.report({"kind": "error", "error": text, "shared": shared})

    def _watch(self, client: DispatcherClient) -> None:
        while not self._released:
            if client.watch(self.job_id, self.attempt) and not self._released:
                self._stop.set()
                return


class DispatcherClient:
    """Rank 0's line to the dispatcher: jobs in, reports out.

    Args:
        dispatcher: The dispatcher's actor.
        lane: Name of this lane.
        incarnation: Which start of the lane this is; a later start has a higher one.

    Attributes:
        leases: The jobs that the lane holds.
    """

    def __init__(self, dispatcher: Any, lane: str, incarnation: int) -> None:
        self.leases: list[Lease] = []
        self._actor, self._who, self._seq = dispatcher, (lane, incarnation), 0
        self._asked: Any = None
        self._log = LogTail()
        logging.getLogger().addHandler(self._log)

    def log_tail(self) -> str:
        """The last lines of this process's log, to be read before an error; empty where there are none."""
        return "".join(f"log: {line}\n" for line in self._log.lines)

    def hung(self, text: str) -> None:
        """Tells the dispatcher, for a bounded time, that this process hangs with all that it holds."""
        leases = list(self.leases)

        def tell() -> None:
            for lease in leases:
                lease.hung(text, shared=len(leases) > 1)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(HUNG_SECONDS)

    def take(self, wait: bool) -> dict[str, Any] | None:
        """The next job or "stop"; see `sweeps.lanes.dispatcher.Dispatcher.take`.

        Returns:
            None if there is nothing now, which happens with `wait=False` alone.
        """
        while True:
            if self._asked is None:
                self._asked = self._actor.take.remote(*self._who, self._seq, POLL_SECONDS)
            if not wait and not ray.wait([self._asked], timeout=0)[0]:
                return None
            answer, self._asked = ray.get(self._asked), None
            if answer["do"] != "wait":
                self._seq += answer["do"] == "work"
                return dict(answer)

    def post(self, job_id: str, attempt: int, report: Report, *, wait: bool = True) -> bool:
        """Sends a report; says whether the job goes on, which is not known without waiting."""
        what, step = f"{report['kind']} {job_id}", report.get("step", 0)
        fault_injection.reached("post_due", what, step)
        answer: Any = self._actor.post.remote(*self._who, job_id, attempt, report)
        goes_on = bool(ray.get(answer)) if wait else True
        fault_injection.reached("post_done", what, step)
        return goes_on

    def leave(self) -> None:
        """The lane goes; what it was given and has not begun is for others."""
        ray.get(self._actor.leave.remote(*self._who))

    def watch(self, job_id: str, attempt: int) -> bool:
        """Waits a while; whether the job is to be dropped."""
        return bool(ray.get(self._actor.watch.remote(*self._who, job_id, attempt, POLL_SECONDS)))


class JobSource:
    """The lane's jobs, the same on every rank: rank 0 asks, the others learn of them by broadcast.

    The broadcast goes through Ray, not through torch: a torch collective would time out in an idle lane.

    Args:
        dispatcher: The dispatcher's actor.
        client: The line to it; None on workers that are not rank 0.
    """

    def __init__(self, dispatcher: Any, client: DispatcherClient | None) -> None:
        self._dispatcher, self._desk = dispatcher, client
        self._kept: list[Lease | None] = []

    def next(self) -> Lease | None:
        """Waits for the next job; None when the lane is to go home."""
        if self._kept:
            return self._kept.pop()
        answer = self._desk.take(wait=True) if self._desk else None
        if ray.train.get_context().get_world_size() > 1:
            answer = broadcast_from_rank_zero(answer)
        assert answer is not None
        return self._lease(answer)

    def trial(self) -> Lease | None:
        """A trial that goes beside others, if one is waiting now; for lanes of one worker.

        Anything else is kept for `next`.
        """
        if self._kept or not self._desk or (answer := self._desk.take(wait=False)) is None:
            return None
        lease = self._lease(answer)
        if lease and lease.is_trial and lease.work.get("slots", 1) > 1:  # one slot: it must be trained alone
            return lease
        self._kept.append(lease)
        return None

    def _lease(self, answer: dict[str, Any]) -> Lease | None:
        if answer["do"] == "stop":
            return None
        work: Any = None
        while work is None:
            work = ray.get(self._dispatcher.work_of.remote(answer["job_id"], POLL_SECONDS))
        return Lease(self._desk, answer["job_id"], answer["attempt"], work)


class LogTail(logging.Handler):
    """Keeps the last lines of the log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LOG_TAIL_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line."""
        self.lines.append(f"{record.levelname.lower()} {record.name}: {record.getMessage()}".splitlines()[0])


class WarningForwarder(logging.Handler):
    """Sends warnings of this process to the dispatcher, and so to the user's terminal."""

    def __init__(self, client: DispatcherClient) -> None:
        super().__init__(logging.WARNING)
        self.client = client

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one warning."""
        self.client.post("", 0, {"kind": "notice", "level": "warning", "text": record.getMessage()}, wait=False)
