"""Jobs, lanes and leases: the state of the dispatcher.

A job's states:

    queued -> running -> ended

An error or a lost lane queues a running job again, at most `max_failures` times. A lane that leaves with its node
queues it again too, without counting a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from trainables.lane.messages import AreasReport, JobEnd, LatestReport, Work

State = Literal["queued", "running", "ended"]


@dataclass
class Job:
    """One piece of work for a lane: a trial, or scores of the base model."""

    job_id: str
    number: int  # place in the order of submission, kept when the job is queued again
    work: Work | None = None
    state: State = "queued"
    attempt: int = 1
    preempted: int = 0  # times that a lane left it unfinished because the lane's node went
    lane: str | None = None
    incarnation: int = 0
    cancelled: str | None = None
    reports: list[AreasReport] = field(default_factory=list)
    latest: LatestReport = field(default_factory=LatestReport)
    errors: list[str] = field(default_factory=list)
    exclusive: bool = False  # whether no other job may share its lane: after an error that another may have caused
    end: JobEnd | None = None
    changed_at: int = 0  # `JobQueue.changes` at the last change


@dataclass
class Lane:
    """A Ray Train run that serves jobs; each restart of it is a new incarnation of the same lane."""

    name: str
    incarnation: int
    start: str = ""  # unique id that the incarnation gave itself; empty where only its number is known
    lost: bool = False  # whether it was given up; its reports are ignored then
    leases: dict[int, str] = field(default_factory=dict)  # job id by the `seq` of the request
    idle_incarnations: int = 0  # in a row that ended without having done work
    did_work: bool = False


class JobQueue:
    """Holds every job and every lane.

    Args:
        max_failures: How often a job is queued again after an error or a lost lane.
        on_change: Called with each job after a change of its state, or after its cancellation.
        clock_ns: Time of day, which numbers incarnations.
    """

    def __init__(
        self, max_failures: int, on_change: Callable[[Job], None], clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.max_failures = max_failures
        self._on_change = on_change
        self._clock_ns = clock_ns
        self.jobs: dict[str, Job] = {}  # in the order of submission
        self.lanes: dict[str, Lane] = {}
        self.ended: list[Job] = []  # in the order of their ends
        self.changes = 0  # of all jobs so far
        self._queued: dict[str, Job] = {}

    def add(self, job_id: str, work: Work | None = None) -> Job:
        """Returns the job of that id; queues it if it is new."""
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = Job(job_id, len(self.jobs), work)
            self._move(job, "queued")
        return job

    def cancel(self, job: Job, why: str) -> None:
        """Stops a job for good; `why` becomes its end state. Later calls change nothing."""
        if job.state == "ended" or job.cancelled:
            return
        job.cancelled = why
        if job.state == "queued":
            self.end(job, {"state": why, "steps": 0, "samples_seen": 0})
        else:
            self._on_change(job)

    def join(self, name: str, start: str) -> int:
        """Registers a lane that is up and queues the jobs of its earlier incarnation again.

        Returns:
            The number of the incarnation, whose unique id is `start`; above all earlier ones.
        """
        known = self.lanes.get(name)
        if known and known.start == start:  # the lane repeats a call whose answer it lost
            return known.incarnation
        # By the clock, so that numbers go up over restarts of the dispatcher; + 1 in case the clock goes back.
        return self._renew(name, max(known.incarnation + 1 if known else 1, self._clock_ns()), start).incarnation

    def heard(self, name: str, incarnation: int) -> Lane | None:
        """Returns the calling lane; None if the call comes from an old incarnation or from a lane that was given up."""
        known = self.lanes.get(name)
        if known is None or known.incarnation < incarnation:  # it joined before this dispatcher was restarted
            known = self._renew(name, incarnation)
        return None if known.lost or known.incarnation > incarnation else known

    def lose(self, name: str, said: str = "") -> int:
        """Gives up a lane that died and queues its jobs again.

        Args:
            name: The lane.
            said: What its workers raised; empty where that is not known.

        Returns:
            Its incarnation, 0 if it had not come up.
        """
        known = self.lanes.get(name)
        if known is None:
            return 0
        known.lost = True
        self._queue_again(name, said)
        return known.incarnation

    def lease_next(self, lane: Lane, seq: int) -> None:
        """Leases the lane the queued job that was submitted first, if there is one."""
        if not self._queued:
            return
        job = min(self._queued.values(), key=lambda job: job.number)
        job.lane, job.incarnation, job.latest, job.reports = lane.name, lane.incarnation, {}, []
        lane.leases = {seq: job.job_id}
        self._move(job, "running")

    def held(self, lane: str, incarnation: int, job_id: str, attempt: int) -> Job | None:
        """Returns the job if this lane holds it."""
        if self.heard(lane, incarnation) is None:
            return None
        job = self.add(job_id)
        # A restarted dispatcher has forgotten the lease: the first lane that claims the job is its holder.
        if job.lane is None and job.state == "queued" and job.attempt <= attempt:
            job.lane, job.incarnation, job.attempt = lane, incarnation, attempt
            self._move(job, "running")
        holds = (job.lane, job.incarnation, job.attempt) == (lane, incarnation, attempt)
        return job if holds and job.state == "running" else None

    def try_again(self, job: Job, error: str, *, shared: bool = False) -> None:
        """Queues a job again after an error or the loss of its lane, or ends it after too many errors."""
        if shared:  # by several jobs in one step, so that none is blamed: the job's next error, on its own, counts
            job.exclusive = True
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
        """Queues a job again that its lane left unfinished; that is no failure of the job."""
        if job.cancelled:
            self.end(job, {"state": job.cancelled, "steps": 0, "samples_seen": 0})
            return
        job.lane, job.attempt, job.latest = None, job.attempt + 1, {}
        job.preempted += 1
        self._move(job, "queued")

    def leave(self, name: str, incarnation: int) -> None:
        """Lets a lane go that says it leaves."""
        known = self.lanes.get(name)
        if known is None or known.incarnation != incarnation:
            return
        known.lost = known.did_work = True  # nothing was wrong with it, even if it had nothing to do
        for job in list(self.jobs.values()):
            if job.lane == name and job.state == "running":
                self.put_back(job)

    def end(self, job: Job, end: JobEnd) -> None:
        job.end = end
        self.ended.append(job)
        self._move(job, "ended")

    def _renew(self, name: str, incarnation: int, start: str = "") -> Lane:
        known = self.lanes.get(name)
        idle = 0 if known is None or known.did_work else known.idle_incarnations + 1
        self.lanes[name] = Lane(name, incarnation, start, idle_incarnations=idle)
        self._queue_again(name)
        return self.lanes[name]

    def _queue_again(self, lane: str, said: str = "") -> None:
        held = [job for job in self.jobs.values() if job.lane == lane and job.state == "running"]
        for job in held:
            # One loss may be the machine's fault; repeated ones may come from one trial that takes all memory, say.
            job.exclusive |= len(held) > 1 and bool(job.errors)
            why = said or "killed or crashed, or its node went; most often memory ran out: dmesg shows it"
            self.try_again(job, f"lost: the worker of {lane} ended: {why}")

    def touch(self, job: Job) -> None:
        """Marks a job as changed, for `Dispatcher.status`."""
        self.changes += 1
        job.changed_at = self.changes

    def _move(self, job: Job, state: State) -> None:
        job.state = state
        if state == "queued":
            self._queued[job.job_id] = job
        else:
            self._queued.pop(job.job_id, None)
        self.touch(job)
        self._on_change(job)
