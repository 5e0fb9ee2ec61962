"""Jobs and lanes, and who holds what: the dispatcher's state, apart from how it waits.

A job is a dict that only lanes read; here it has an id, a queue position and a state:

    queued -> running -> ended          (an error or a lost lane puts it back to queued, `max_failures` times; a lane
                                         that leaves with its node does, too, and that is no failure)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Message = dict[str, Any]


@dataclass
class Job:
    """One piece of work for a lane: the base model's scores, or a trial.

    Attributes:
        number: Its place in the order of submission, which it keeps when it is queued again.
        alone: Whether it is done beside no other: after an error that may have been another's.
        preempted: How often a lane left it unfinished because the lane's node went.
        changed_at: When it last changed, in changes of all jobs.
    """

    job_id: str
    number: int
    work: Message | None = None
    state: Literal["queued", "running", "ended"] = "queued"
    attempt: int = 1
    preempted: int = 0
    lane: str | None = None
    incarnation: int = 0
    cancelled: str | None = None
    reports: list[Message] = field(default_factory=list)
    latest: Message = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    alone: bool = False
    end: Message | None = None
    changed_at: int = 0


@dataclass
class Lane:
    """A Ray Train run that serves jobs; a new incarnation is the same lane after a restart.

    Attributes:
        start: What the incarnation calls itself; empty where only its number is known.
        lost: Whether it was given up: what it says is not heard any more.
    """

    name: str
    incarnation: int
    start: str = ""
    lost: bool = False
    leases: dict[int, str] = field(default_factory=dict)
    idle_incarnations: int = 0
    did_work: bool = False


class JobQueue:
    """Every job and every lane.

    Args:
        max_failures: How often a job is queued again after an error or a lost lane.
        on_change: Called with each job after it has come to another state, or was told to stop.
        clock_ns: Time of day. Incarnations are numbered by it, so that their numbers go up over restarts of the
            dispatcher, too; while it lives they do whatever the clock does.

    Attributes:
        jobs: By id, in the order of submission.
        lanes: By name.
        ended: Jobs in the order in which they ended.
        changes: Changes of jobs so far.
    """

    def __init__(
        self, max_failures: int, on_change: Callable[[Job], None], clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.max_failures, self._on_change, self._clock_ns = max_failures, on_change, clock_ns
        self.jobs: dict[str, Job] = {}
        self.lanes: dict[str, Lane] = {}
        self.ended: list[Job] = []
        self.changes = 0
        self._queued: dict[str, Job] = {}

    def add(self, job_id: str, work: Message | None = None) -> Job:
        """The job of that id; a new one is queued."""
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = Job(job_id, len(self.jobs), work)
            self._move(job, "queued")
        return job

    def cancel(self, job: Job, why: str) -> None:
        """Stops a job, once and for all; a later call changes nothing. `why` becomes the state it ends with."""
        if job.state == "ended" or job.cancelled:
            return
        job.cancelled = why
        if job.state == "queued":
            self.end(job, {"state": why, "steps": 0, "samples_seen": 0})
        else:
            self._on_change(job)

    def join(self, name: str, start: str) -> int:
        """A lane is up: jobs that an earlier incarnation of it held are queued again.

        Args:
            name: The lane.
            start: What this incarnation calls itself; asking again under the same name changes nothing.

        Returns:
            The incarnation's number, above those before.
        """
        known = self.lanes.get(name)
        if known and known.start == start:
            return known.incarnation
        return self._renew(name, max(known.incarnation + 1 if known else 1, self._clock_ns()), start).incarnation

    def heard(self, name: str, incarnation: int) -> Lane | None:
        """The lane that speaks; None if it is not its newest incarnation, or was given up.

        A lane that this dispatcher doesn't know, or knows an older incarnation of, is older than the dispatcher.
        """
        known = self.lanes.get(name)
        if known is None or known.incarnation < incarnation:
            known = self._renew(name, incarnation)
        return None if known.lost or known.incarnation > incarnation else known

    def lose(self, name: str) -> int:
        """A lane's worker, or what watches over it, has died: what it held is queued again at once.

        Returns:
            The number of the incarnation that was lost; 0 if the lane had not come up.
        """
        known = self.lanes.get(name)
        if known is None:
            return 0
        known.lost = True
        self._queue_again(name)
        return known.incarnation

    def lease_next(self, lane: Lane, seq: int) -> None:
        """Gives the lane the queued job that was submitted first, if there is one."""
        if not self._queued:
            return
        job = min(self._queued.values(), key=lambda job: job.number)
        job.lane, job.incarnation, job.latest, job.reports = lane.name, lane.incarnation, {}, []
        lane.leases = {seq: job.job_id}
        self._move(job, "running")

    def held(self, lane: str, incarnation: int, job_id: str, attempt: int) -> Job | None:
        """The job if this lane holds it. After a restart of the dispatcher the lane that speaks first is the holder."""
        if self.heard(lane, incarnation) is None:
            return None
        job = self.add(job_id)
        if job.lane is None and job.state == "queued" and job.attempt <= attempt:
            job.lane, job.incarnation, job.attempt = lane, incarnation, attempt
            self._move(job, "running")
        holds = (job.lane, job.incarnation, job.attempt) == (lane, incarnation, attempt)
        return job if holds and job.state == "running" else None

    def try_again(self, job: Job, error: str, *, shared: bool = False) -> None:
        """A job went wrong, or its lane is lost.

        Args:
            job: The job.
            error: How, as text.
            shared: It happened in a step that several jobs shared. No single one is blamed: it does not count as a
                failure, but the job is tried again alone, and then its errors are its own.
        """
        if shared:
            job.alone = True
        else:
            job.errors.append(error)
        if job.cancelled:
            self.end(job, {"state": job.cancelled, "error": error})
        elif len(job.errors) > self.max_failures:
            self.end(job, {"state": "failed", "error": error})
        else:
            job.lane, job.attempt, job.latest = None, job.attempt + 1, {}
            self._move(job, "queued")

    def put_back(self, job: Job) -> None:
        """A lane leaves a job unfinished through no fault of the job's."""
        if job.cancelled:
            self.end(job, {"state": job.cancelled, "steps": 0, "samples_seen": 0})
            return
        job.lane, job.attempt, job.latest = None, job.attempt + 1, {}
        job.preempted += 1
        self._move(job, "queued")

    def leave(self, name: str, incarnation: int) -> None:
        """A lane is gone, by its own word."""
        known = self.lanes.get(name)
        if known is None or known.incarnation != incarnation:
            return
        known.lost = known.did_work = True  # nothing was wrong with it, even if it had nothing to do
        for job in list(self.jobs.values()):
            if job.lane == name and job.state == "running":
                self.put_back(job)

    def end(self, job: Job, end: Message) -> None:
        """A job is over."""
        job.end = end
        self.ended.append(job)
        self._move(job, "ended")

    def _renew(self, name: str, incarnation: int, start: str = "") -> Lane:
        known = self.lanes.get(name)
        idle = 0 if known is None or known.did_work else known.idle_incarnations + 1
        self.lanes[name] = Lane(name, incarnation, start, idle_incarnations=idle)
        self._queue_again(name)
        return self.lanes[name]

    def _queue_again(self, lane: str) -> None:
        held = [job for job in self.jobs.values() if job.lane == lane and job.state == "running"]
        for job in held:
            # Once it may be the machine's fault; again and again it may be one trial's, which takes all memory, say.
            job.alone |= len(held) > 1 and bool(job.errors)
            self.try_again(job, f"lost: the worker of {lane} ended")

    def touch(self, job: Job) -> None:
        """Marks a job as changed, for those who ask what has."""
        self.changes += 1
        job.changed_at = self.changes

    def _move(self, job: Job, state: Literal["queued", "running", "ended"]) -> None:
        job.state = state
        if state == "queued":
            self._queued[job.job_id] = job
        else:
            self._queued.pop(job.job_id, None)
        self.touch(job)
        self._on_change(job)
