"""Client of the dispatcher: takes jobs, sends reports, and learns which jobs are to be dropped."""

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
from trainables.lane.messages import RELEASED, Leased, NotLeased, Work
from trainables.lane.trial_job import Report
from trainables.reliability import fault_injection

logger = logging.getLogger(__name__)

POLL_SECONDS = 20.0
ERROR_TAIL_LINES = 30
LOG_TAIL_LINES = 10
HUNG_SECONDS = 10.0
INTERRUPTED = "interrupted"  # why the dispatcher cancels the jobs of a sweep that is to be resumed


class Lease:
    """A job that this lane holds.

    Args:
        client: The dispatcher's client; None on workers that are not rank 0.
        job_id: The job.
        attempt: Number of this attempt at the job.
        work: The job's description, as `run_job` or `TrialJob` takes it.
    """

    def __init__(self, client: DispatcherClient | None, job_id: str, attempt: int, work: Work) -> None:
        self.job_id, self.attempt, self.work = job_id, attempt, work
        self._client = client
        self._stop, self._released = threading.Event(), threading.Event()
        self._why = ""
        if client:
            client.leases.append(self)
            threading.Thread(target=self._watch, args=(client,), daemon=True).start()

    @property
    def is_trial(self) -> bool:
        """Whether the job is a trial, which can share the lane with others."""
        return bool(self.work["do"] == "trial")

    def wants_stop(self) -> bool:
        """Whether the dispatcher has told the lane to drop the job."""
        return self._stop.is_set()

    def is_interrupted(self) -> bool:
        """Whether it has told so because the sweep was interrupted or gives the lane back: a trial is resumed later."""
        return self._stop.is_set() and self._why in (INTERRUPTED, RELEASED)

    def report(self, message: Report) -> None:
        """Send a report."""
        if self._client:
            wait = message["kind"] != "progress"  # for the live view only: it may come late or get lost
            if not self._client.post(self.job_id, self.attempt, message, wait=wait):
                self._drop(self._client.watch(self.job_id, self.attempt))  # tells at once why

    def end(self, end: Report) -> None:
        """Report the job's end and release it."""
        self._release({"kind": "end", "end": end})

    def fail(self, error: BaseException, *, shared: bool = False) -> None:
        """Report an error and release the job.

        Args:
            error: The error.
            shared: It happened in a step that several jobs shared, so this job may not be its cause.
        """
        text = "".join(traceback.format_exception(error)).splitlines(keepends=True)[-ERROR_TAIL_LINES:]
        logged = self._client.log_tail() if self._client else ""
        logger.error("job %s failed", self.job_id, exc_info=error)
        report = {"kind": "error", "error": logged + "".join(text), "shared": shared}
        if full := os_error(error, DISK_FULL):
            # No fault of the job's: the dispatcher keeps the job for a resumed sweep, and the driver ends this one.
            report["disk_full"] = {"file": full.filename, "reason": full.strerror}
        self._release(report)

    def hung(self, text: str, *, shared: bool) -> None:
        """Report that this process hangs and is about to end, with all its jobs."""
        self.report({"kind": "error", "error": text, "shared": shared})

    def _release(self, report: Report) -> None:
        self.report(report)
        self._released.set()  # the thread of `_watch` ends with its current call
        if self._client:
            self._client.leases.remove(self)

    def _watch(self, client: DispatcherClient) -> None:
        while not self._released.is_set():
            if (why := client.watch(self.job_id, self.attempt)) and not self._released.is_set():
                self._drop(why)
                return

    def _drop(self, why: str) -> None:
        if not self._stop.is_set():
            self._why = why
            self._stop.set()


class DispatcherClient:
    """Rank 0's client of the dispatcher.

    Args:
        dispatcher: The dispatcher's actor.
        lane: Name of this lane.
        incarnation: Number of this start of the lane, above those of earlier starts.

    Attributes:
        leases: The jobs that the lane holds.
    """

    def __init__(self, dispatcher: Any, lane: str, incarnation: int) -> None:
        self.leases: list[Lease] = []
        self._actor, self._who, self._seq = dispatcher, (lane, incarnation), 0
        self._asked: Any = None  # a call of `take` that has not been answered
        self._log = LogTail()
        logging.getLogger().addHandler(self._log)

    def log_tail(self) -> str:
        """The last lines of this process's log, to go before an error."""
        return "".join(f"log: {line}\n" for line in self._log.lines)

    def hung(self, text: str) -> None:
        """Report, within a bounded time, that this process hangs with all its jobs."""
        leases = list(self.leases)

        def tell() -> None:
            for lease in leases:
                lease.hung(text, shared=len(leases) > 1)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(HUNG_SECONDS)

    def take(self, wait: bool) -> Leased | NotLeased | None:
        """Take the next job or "stop", as `sweeps.lanes.dispatcher.Dispatcher.take` gives it.

        Without `wait` the answer is None if there is no job now.
        """
        while True:
            # Without `wait` the call stays open, and a later one picks its answer up: a lane looks between two steps.
            if self._asked is None:
                self._asked = self._actor.take.remote(*self._who, self._seq, POLL_SECONDS)
            if not wait and not ray.wait([self._asked], timeout=0)[0]:
                return None
            answer, self._asked = ray.get(self._asked), None
            if answer["do"] != "wait":
                self._seq += answer["do"] == "work"
                return answer

    def post(self, job_id: str, attempt: int, report: Report, *, wait: bool = True) -> bool:
        """Send a report; return whether the job goes on, which is assumed without waiting."""
        what, step = f"{report['kind']} {job_id}", report.get("step", 0)
        fault_injection.reached("post_due", what, step)
        answer: Any = self._actor.post.remote(*self._who, job_id, attempt, report)
        goes_on = bool(ray.get(answer)) if wait else True
        fault_injection.reached("post_done", what, step)
        return goes_on

    def leave(self) -> None:
        """Announce that the lane leaves; jobs that it was given and has not begun go to other lanes."""
        ray.get(self._actor.leave.remote(*self._who))

    def watch(self, job_id: str, attempt: int) -> str:
        """Wait for a bounded time; return why the job is to be dropped, empty where it is not."""
        why: Any = ray.get(self._actor.watch.remote(*self._who, job_id, attempt, POLL_SECONDS))
        return str(why)


class JobSource:
    """The lane's jobs, the same on every rank: rank 0 asks the dispatcher and broadcasts the answer.

    Args:
        dispatcher: The dispatcher's actor.
        client: The dispatcher's client; None on workers that are not rank 0.
    """

    def __init__(self, dispatcher: Any, client: DispatcherClient | None) -> None:
        self._dispatcher, self._client = dispatcher, client
        self._kept: list[Lease | None] = []

    def next(self) -> Lease | None:
        """Wait for the next job; None when the lane is to end."""
        if self._kept:
            return self._kept.pop()
        answer = self._client.take(wait=True) if self._client else None
        if ray.train.get_context().get_world_size() > 1:
            # Through Ray, not through torch: a torch collective would time out in an idle lane.
            answer = broadcast_from_rank_zero(answer)
        assert answer is not None
        return self._lease(answer)

    def trial(self) -> Lease | None:
        """A trial that can share the lane, if one is waiting now; any other job is kept for `next`."""
        if self._kept or not self._client or (answer := self._client.take(wait=False)) is None:
            return None
        lease = self._lease(answer)
        if lease and lease.is_trial and lease.work.get("slots", 1) > 1:  # a trial of one slot shares no lane
            return lease
        self._kept.append(lease)
        return None

    def _lease(self, answer: Leased | NotLeased) -> Lease | None:
        if answer["do"] != "work":
            return None
        work: Any = None
        while work is None:  # a restarted dispatcher learns a job's work when the driver submits it again
            work = ray.get(self._dispatcher.work_of.remote(answer["job_id"], POLL_SECONDS))
        return Lease(self._client, answer["job_id"], answer["attempt"], work)


class LogTail(logging.Handler):
    """Keeps the last lines of this process's log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LOG_TAIL_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(f"{record.levelname.lower()} {record.name}: {record.getMessage()}".splitlines()[0])


class WarningForwarder(logging.Handler):
    """Sends warnings of this process to the dispatcher, which shows them on the user's terminal."""

    def __init__(self, client: DispatcherClient) -> None:
        super().__init__(logging.WARNING)
        self.client = client

    def emit(self, record: logging.LogRecord) -> None:
        """Send a warning."""
        self.client.post("", 0, {"kind": "notice", "level": "warning", "text": record.getMessage()}, wait=False)
