"""The dispatcher: hands jobs to lanes and relays their reports.

A plain asyncio class; `sweeps.lanes.lanes` runs it as a Ray actor. Clients only ever call it, and every call may be
repeated, so the dispatcher can be restarted at any moment: clients submit again (attach-or-create), and a lane that
holds a job is adopted when it next asks about that job. `sweeps.lanes.job_queue` holds the state,
`sweeps.lanes.wait_topics` the waiters.
"""

from __future__ import annotations

import time
from typing import Any

from sweeps.lanes.job_queue import Job, JobQueue
from sweeps.lanes.wait_topics import LONGEST_WAIT_SECONDS, WaitTopics
from trainables.lane.messages import (
    RELEASED,
    AreasReport,
    DiskFull,
    EndedJob,
    EndedJobs,
    JobStatus,
    Leased,
    Notice,
    NotLeased,
    PollAnswer,
    Report,
    Status,
    Work,
)

ADOPTION_SECONDS = 5.0
LOST = "lost"  # why a lane drops a job that is no longer its own

# Topics to wait for; the other topics are ids of jobs.
WORK, ENDS = ("work",), ("ends",)


class Dispatcher:
    """Queues jobs, leases them to lanes and relays the lanes' reports.

    Args:
        max_failures: How often a job is queued again after an error or a lost lane.
        restarted: Whether this object replaces one that died.
    """

    def __init__(self, max_failures: int, *, restarted: bool = False) -> None:
        self.queue = JobQueue(max_failures, self._on_change)
        self.notices: list[Notice] = []
        self.interrupted = False
        self.disk_full: DiskFull | None = None  # where and why; nothing is leased then, and the driver ends the sweep
        self.stopping = False
        self.released: set[str] = set()  # lanes that the sweep gives back
        self._born = time.time_ns()
        # After a restart nothing is leased before the driver's `recall`, which says what is done already, nor before
        # lanes had a moment to claim the jobs that they hold.
        self._recalled = not restarted
        self._no_lease_before = time.monotonic() + (ADOPTION_SECONDS if restarted else 0.0)
        self._topics = WaitTopics()

    # --- the driver and the Tune trials -------------------------------------------------------------------------

    async def submit(self, job_id: str, work: Work) -> None:
        """Queues a job, or attaches to the one of that id."""
        job = self.queue.add(job_id, work)
        if job.work is None:  # adopted from a lane after a restart; the lane waits in `work_of`
            job.work = work
            self._topics.notify(job_id)
        if self.interrupted:
            self.queue.cancel(job, "interrupted")

    async def poll(self, job_id: str, after: int, timeout_seconds: float) -> PollAnswer:
        """Waits for reports of a job with a `seq` above `after`, or for the job's end."""

        def answer() -> PollAnswer | None:
            job = self.queue.jobs.get(job_id)
            if job is None:
                return {"known": False, "reports": [], "end": None}
            fresh = [report for report in job.reports if report["seq"] > after]
            return {"known": True, "reports": fresh, "end": job.end} if fresh or job.end else None

        nothing: PollAnswer = {"known": True, "reports": [], "end": None}
        return await self._topics.wait_for(job_id, answer, timeout_seconds) or nothing

    async def cancel(self, job_id: str, why: str) -> None:
        """Stops a job for good; `why` becomes its end state. Later calls change nothing."""
        if job := self.queue.jobs.get(job_id):
            self.queue.cancel(job, why)

    async def interrupt(self) -> None:
        """Cancels every job that has not ended, and every job that is submitted from now on."""
        self.interrupted = True
        for job in list(self.queue.jobs.values()):
            self.queue.cancel(job, "interrupted")

    async def drain(self, timeout_seconds: float) -> bool:
        """Waits until no job is queued or running; returns False after the timeout."""
        queue = self.queue
        over = await self._topics.wait_for(ENDS, lambda: len(queue.ended) == len(queue.jobs) or None, timeout_seconds)
        return bool(over)

    async def recall(self, submitted: dict[str, Work], cancelled: dict[str, str], over: list[EndedJob]) -> None:
        """Takes over the driver's knowledge after a restart, by job id; `over` are jobs from `ended_since`."""
        for job_id, work in submitted.items():  # the driver's own; Tune trials submit theirs again
            await self.submit(job_id, work)
        for ended in over:  # must not run again
            job = self.queue.add(ended["job_id"], ended["work"])
            if job.state != "ended":
                self.queue.end(job, ended["end"])
        for job_id, why in cancelled.items():
            self.queue.cancel(self.queue.add(job_id), why)
        self._recalled = True
        self._topics.notify(WORK)

    async def stop(self) -> None:
        """Cancels every job and ends every lane."""
        self.stopping = True
        await self.interrupt()
        self._topics.notify_all()

    async def ended_since(self, born: int, count: int, timeout_seconds: float) -> EndedJobs:
        """Waits for jobs that ended after the first `count`; `born` is that of the caller's last answer."""
        # The count of a dispatcher that died means nothing here.
        known, ended = count if born == self._born else 0, self.queue.ended
        await self._topics.wait_for(ENDS, lambda: len(ended) > known or None, timeout_seconds)
        return {"born": self._born, "ended": [_ended(job) for job in ended[known:]]}

    async def status(self, born: int = 0, after: int = 0) -> Status:
        """Returns lanes and the jobs that changed since the last answer, by its `born` and its `changes` (`after`)."""
        known = after if born == self._born else 0
        return {
            "jobs": {job.job_id: _status(job) for job in self.queue.jobs.values() if job.changed_at > known},
            "lanes": {
                lane.name: {"idle_incarnations": lane.idle_incarnations, "up": not lane.lost}
                for lane in self.queue.lanes.values()
            },
            "notices": list(self.notices),
            "born": self._born,
            "changes": self.queue.changes,
            "disk_full": self.disk_full,
        }

    # --- the lanes ----------------------------------------------------------------------------------------------

    async def join(self, lane: str, start: str) -> int:
        """Registers a lane that is up; see `JobQueue.join`. Returns 0 where the lane should end before it loads."""
        if lane in self.released:
            self.queue.lose(lane)
            return 0
        incarnation = self.queue.join(lane, start)
        self._topics.notify(WORK)
        return 0 if self.stopping else incarnation

    async def release(self, lanes: list[str]) -> None:
        """Tells lanes to hand their trials back at the present step, and to end. It may be repeated."""
        self.released.update(lanes)
        for job in list(self.queue.jobs.values()):
            if job.lane in self.released and job.state == "running":
                self._topics.notify(job.job_id)
        self._topics.notify(WORK)

    async def lost(self, lane: str, said: str = "") -> int:
        """Gives up a lane whose worker or controller died; see `JobQueue.lose`."""
        return self.queue.lose(lane, said)

    async def leave(self, lane: str, incarnation: int) -> None:
        """Lets a lane go, because its node goes or the sweep ends; its jobs are queued again."""
        self.queue.leave(lane, incarnation)
        self._topics.notify(WORK)

    async def take(self, lane: str, incarnation: int, seq: int, timeout_seconds: float) -> Leased | NotLeased:
        """Leases the lane its next job. The same `seq` gives the same job, so that a lost answer loses no job."""

        def answer() -> Leased | NotLeased | None:
            known = self.queue.heard(lane, incarnation)
            if self.stopping or known is None or lane in self.released:
                return {"do": "stop"}
            may_lease = self._recalled and not self.disk_full and time.monotonic() >= self._no_lease_before
            if may_lease and seq not in known.leases:
                self.queue.lease_next(known, seq)
            job = self.queue.jobs.get(known.leases.get(seq, ""))
            return {"do": "work", "job_id": job.job_id, "attempt": job.attempt} if job else None

        adopting = self._no_lease_before - time.monotonic()
        # The end of the adoption time notifies no topic.
        recheck = adopting if adopting > 0 else LONGEST_WAIT_SECONDS
        return await self._topics.wait_for(WORK, answer, timeout_seconds, recheck) or {"do": "wait"}

    async def work_of(self, job_id: str, timeout_seconds: float) -> Work | None:
        """Returns a job's work; None while it has not been submitted again after a restart."""

        def answer() -> Work | None:
            job = self.queue.jobs.get(job_id)
            if job is None or job.work is None:
                return None
            return {**job.work, "slots": 1} if job.exclusive else job.work

        return await self._topics.wait_for(job_id, answer, timeout_seconds)

    async def post(self, lane: str, incarnation: int, job_id: str, attempt: int, report: Report) -> bool:
        """Takes a lane's report on the job it holds; returns whether the lane should go on with that job."""
        if report["kind"] == "notice":
            self.notices.append({"level": report["level"], "text": report["text"]})
            return True
        job = self.queue.held(lane, incarnation, job_id, attempt)
        if job is None:
            return False
        self.queue.lanes[lane].did_work = True
        if report["kind"] == "progress":
            scored: Any = {key: job.latest[key] for key in ("areas", "objective") if key in job.latest}
            job.latest = {**scored, **report}
            self.queue.touch(job)
        elif report["kind"] == "areas":
            self._relay(job, report)
        elif report["kind"] == "error" and "disk_full" in report and not job.cancelled:
            self.disk_full = report["disk_full"]
            self.queue.put_back(job)
        elif report["kind"] == "error":
            self.queue.try_again(job, report["error"], shared=report.get("shared", False))
        elif report["end"]["state"] == "preempted" and not job.cancelled:
            self.queue.put_back(job)
        else:
            state = report["end"]["state"]
            # A cancelled trial that completed before it heard of it stays complete.
            stopped = job.cancelled if job.cancelled and state in ("stopped", "preempted", "paused") else state
            self.queue.end(job, {**report["end"], "state": stopped})
        return job.cancelled is None and job.state == "running"

    async def watch(self, lane: str, incarnation: int, job_id: str, attempt: int, timeout_seconds: float) -> str:
        """Waits until the lane should drop the job it holds; returns why, which is empty after the timeout."""

        def answer() -> str | None:
            job = self.queue.held(lane, incarnation, job_id, attempt)
            if job is None:
                return LOST
            return job.cancelled or (RELEASED if lane in self.released else None)

        return await self._topics.wait_for(job_id, answer, timeout_seconds) or ""

    # --- inside -------------------------------------------------------------------------------------------------

    def _relay(self, job: Job, report: AreasReport) -> None:
        # Lanes repeat calls: a report that is known already is dropped.
        if any(report["seq"] == old["seq"] for old in job.reports):
            return
        job.reports.append(report)
        job.latest = {**job.latest, "areas": report["areas"], "objective": report["objective"]}
        self.queue.touch(job)
        self._topics.notify(job.job_id)

    def _on_change(self, job: Job) -> None:
        self._topics.notify(job.job_id)
        if job.state == "queued":
            self._topics.notify(WORK)
        elif job.state == "ended":
            self._topics.notify(ENDS)


def _ended(job: Job) -> EndedJob:
    assert job.end is not None
    return {
        "job_id": job.job_id,
        "work": job.work,
        "attempt": job.attempt,
        "preempted": job.preempted,
        "end": job.end,
    }


def _status(job: Job) -> JobStatus:
    return {
        "job_id": job.job_id,
        "state": job.state,
        "attempt": job.attempt,
        "lane": job.lane,
        "end": job.end,
        "points": [{"step": report["step"], "objective": report["objective"]} for report in job.reports],
        **job.latest,
    }
