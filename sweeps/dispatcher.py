"""The dispatcher: hands jobs to lanes and relays what they report.

A plain asyncio class; `sweeps.lanes` runs it as a Ray actor. Both sides only ever call it, and every call may be
repeated, so it can be restarted at any moment: clients submit again (attach-or-create) and lanes that hold a job are
adopted when they next ask about it. Every wait is bounded, because an async actor serves 1,000 calls at a time.

A job is a dict that only lanes read; here it has an id, a queue position and a state:

    queued -> running -> ended          (an error or a lost lane puts it back to queued, `max_failures` times)
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from trainables import stages

Message = dict[str, Any]

LONGEST_WAIT_SECONDS = 10.0
ADOPTION_SECONDS = 5.0


@dataclass
class Job:
    """One piece of work for a lane: the base model's scores, or a trial."""

    job_id: str
    work: Message | None
    state: Literal["queued", "running", "ended"] = "queued"
    attempt: int = 1
    lane: str | None = None
    incarnation: int = 0
    cancelled: str | None = None
    reports: list[Message] = field(default_factory=list)
    latest: Message = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    end: Message | None = None


@dataclass
class Lane:
    """A Ray Train run that serves jobs; a new incarnation is the same lane after a restart."""

    name: str
    incarnation: int
    leases: dict[int, str] = field(default_factory=dict)
    idle_incarnations: int = 0
    did_work: bool = False


class Dispatcher:
    """Queue of jobs, leases of lanes, relay of reports.

    Args:
        max_failures: How often a job is queued again after an error or a lost lane.
        restarted: True when this object replaces one that died: lanes get a moment to claim the jobs they hold.
    """

    def __init__(self, max_failures: int, *, restarted: bool = False) -> None:
        self.max_failures = max_failures
        self.jobs: dict[str, Job] = {}
        self.lanes: dict[str, Lane] = {}
        self.notices: list[Message] = []
        self.interrupted = False
        self.stopping = False
        self._no_lease_before = time.monotonic() + (ADOPTION_SECONDS if restarted else 0.0)
        self._changed = asyncio.Event()

    # --- the driver and the Tune trials -------------------------------------------------------------------------

    async def submit(self, job_id: str, work: Message) -> None:
        """Queues a job, or attaches to the one of that id."""
        job = self.jobs.setdefault(job_id, Job(job_id, work))
        job.work = work
        if self.interrupted:
            await self.cancel(job_id, "interrupted")
        self._wake()

    async def poll(self, job_id: str, after: int, timeout_seconds: float) -> Message:
        """Waits for reports of a job with a `seq` above `after`, or for its end.

        Returns:
            `known` (False asks the caller to submit again), `reports`, and `end` (None while the job goes on).
        """

        def answer() -> Message | None:
            job = self.jobs.get(job_id)
            if job is None:
                return {"known": False, "reports": [], "end": None}
            fresh = [report for report in job.reports if report["seq"] > after]
            if fresh or job.end:
                return {"known": True, "reports": fresh, "end": job.end}
            return None

        return await self._wait_for(answer, timeout_seconds) or {"known": True, "reports": [], "end": None}

    async def cancel(self, job_id: str, why: str) -> None:
        """Stops a job, once and for all; a later call changes nothing. `why` becomes the state it ends with."""
        job = self.jobs.get(job_id)
        if job is None or job.state == "ended" or job.cancelled:
            return
        job.cancelled = why
        if job.state == "queued":
            self._end(job, {"state": why, "steps": 0, "samples_seen": 0})
        self._wake()

    async def interrupt(self) -> None:
        """Cancels every job that has not ended, and those that are still on their way here."""
        self.interrupted = True
        for job_id in list(self.jobs):
            await self.cancel(job_id, "interrupted")

    async def drain(self, timeout_seconds: float) -> bool:
        """Waits until no job is queued or running; False when the time is up before."""
        return await self._wait_for(lambda: self._all_ended() or None, timeout_seconds) or False

    async def stop(self) -> None:
        """Cancels every job and sends every lane home."""
        self.stopping = True
        await self.interrupt()
        self._wake()

    async def ended_beyond(self, known: list[str], timeout_seconds: float) -> list[Message]:
        """Waits for jobs that ended, beyond the known ones: each with `job_id`, `work`, `attempt` and its `end`."""

        def answer() -> list[Message] | None:
            fresh = [job for job in self.jobs.values() if job.state == "ended" and job.job_id not in seen]
            return [{"job_id": j.job_id, "work": j.work, "attempt": j.attempt, "end": j.end} for j in fresh] or None

        seen = set(known)
        return await self._wait_for(answer, timeout_seconds) or []

    async def status(self) -> Message:
        """What every job and lane is doing, for the live view."""
        jobs = {
            job.job_id: {
                "state": job.state,
                "attempt": job.attempt,
                "lane": job.lane,
                "end": job.end,
                "points": [{"step": report["step"], "objective": report["objective"]} for report in job.reports],
                **job.latest,
            }
            for job in self.jobs.values()
        }
        lanes = {lane.name: {"idle_incarnations": lane.idle_incarnations} for lane in self.lanes.values()}
        return {"jobs": jobs, "lanes": lanes, "notices": list(self.notices)}

    # --- the lanes ----------------------------------------------------------------------------------------------

    async def join(self, lane: str, incarnation: int) -> bool:
        """A lane is up. Jobs that an earlier incarnation of the same lane held are queued again.

        Returns:
            Whether there may be work for it; False sends it home before it has loaded anything.
        """
        known = self.lanes.get(lane)
        if known and known.incarnation >= incarnation:
            return known.incarnation == incarnation and not self.stopping
        idle = 0 if known is None or known.did_work else known.idle_incarnations + 1
        self.lanes[lane] = Lane(lane, incarnation, idle_incarnations=idle)
        for job in self.jobs.values():
            if job.lane == lane and job.state == "running" and job.incarnation < incarnation:
                self._try_again(job, f"lost: the worker of {lane} ended")
        self._wake()
        return not self.stopping

    async def take(self, lane: str, incarnation: int, seq: int, timeout_seconds: float) -> Message:
        """The lane's next job. Asking twice with the same `seq` gives the same job.

        Returns:
            `do` is "work" (with `job_id` and `attempt`), "wait" (ask again) or "stop" (go home).
        """

        def answer() -> Message | None:
            known = self.lanes.get(lane)
            if self.stopping or (known and known.incarnation > incarnation):
                return {"do": "stop"}
            if known is None:
                known = self.lanes[lane] = Lane(lane, incarnation)
            if seq not in known.leases:
                self._lease_next(known, seq)
            job = self.jobs.get(known.leases.get(seq, ""))
            return {"do": "work", "job_id": job.job_id, "attempt": job.attempt} if job else None

        return await self._wait_for(answer, timeout_seconds) or {"do": "wait"}

    async def work_of(self, job_id: str) -> Message:
        """What is to be done for a job."""
        work = self.jobs[job_id].work
        if work is None:
            raise KeyError(f"the job {job_id} was adopted before it was submitted again")
        return work

    async def post(self, lane: str, incarnation: int, job_id: str, attempt: int, report: Message) -> bool:
        """A lane's report on the job it holds: `kind` is "progress", "areas", "end", "error" or "notice".

        A notice is of no job; its `level` is "info" or "warning".

        Returns:
            Whether the lane should go on with the job.
        """
        if report["kind"] == "notice":
            self.notices.append({"level": report["level"], "text": report["text"]})
            return True
        step = report.get("step", 0)
        stages.reached(f"{report['kind']}_arrived", job_id, step)
        job = self._held(lane, incarnation, job_id, attempt)
        if job is None:
            return False
        self.lanes[lane].did_work = True
        if report["kind"] == "progress":
            job.latest = report
        elif report["kind"] == "areas" and all(report["seq"] != old["seq"] for old in job.reports):
            job.reports.append(report)
            job.latest = {**job.latest, "areas": report["areas"], "objective": report["objective"]}
        elif report["kind"] == "error":
            self._try_again(job, report["error"])
        elif report["kind"] == "end":
            state = job.cancelled if job.cancelled and report["end"]["state"] == "stopped" else report["end"]["state"]
            self._end(job, {**report["end"], "state": state})
        stages.reached(f"{report['kind']}_taken", job_id, step)
        self._wake()
        return job.cancelled is None and job.state == "running"

    async def watch(self, lane: str, incarnation: int, job_id: str, attempt: int, timeout_seconds: float) -> bool:
        """Waits until the lane should drop the job it holds; False when the time is up and it should go on."""

        def answer() -> bool | None:
            job = self._held(lane, incarnation, job_id, attempt)
            return True if job is None or job.cancelled else None

        return await self._wait_for(answer, timeout_seconds) or False

    async def is_ending(self) -> bool:
        """Whether the sweep is to end: what waits for the disk of a lane gives up then."""
        return self.interrupted

    # --- inside -------------------------------------------------------------------------------------------------

    def _lease_next(self, lane: Lane, seq: int) -> None:
        if time.monotonic() < self._no_lease_before:
            return
        for job in self.jobs.values():
            if job.state == "queued":
                job.state, job.lane, job.incarnation = "running", lane.name, lane.incarnation
                job.latest, job.reports = {}, []
                lane.leases = {seq: job.job_id}
                stages.reached("job_leased", job.job_id)
                return

    def _held(self, lane: str, incarnation: int, job_id: str, attempt: int) -> Job | None:
        """The job if this lane holds it. After a restart of the dispatcher the lane that speaks first is the holder."""
        known = self.lanes.setdefault(lane, Lane(lane, incarnation))
        job = self.jobs.setdefault(job_id, Job(job_id, None, attempt=attempt))
        if job.lane is None and job.state == "queued" and job.attempt <= attempt:
            job.state, job.lane, job.incarnation, job.attempt = "running", lane, incarnation, attempt
        holds = (job.lane, job.incarnation, job.attempt) == (lane, incarnation, attempt)
        return job if holds and job.state == "running" and known.incarnation == incarnation else None

    def _all_ended(self) -> bool:
        return all(job.state == "ended" for job in self.jobs.values())

    def _try_again(self, job: Job, error: str) -> None:
        job.errors.append(error)
        if job.cancelled:
            self._end(job, {"state": job.cancelled, "error": error})
        elif len(job.errors) > self.max_failures:
            self._end(job, {"state": "failed", "error": error})
        else:
            job.state, job.lane, job.attempt, job.latest = "queued", None, job.attempt + 1, {}

    def _end(self, job: Job, end: Message) -> None:
        job.state, job.end = "ended", end

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for(self, answer: Any, timeout_seconds: float) -> Any:
        """The first answer that is not None, or None when the time is up."""
        deadline = time.monotonic() + min(timeout_seconds, LONGEST_WAIT_SECONDS)
        while (found := answer()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                await asyncio.wait_for(self._changed.wait(), min(left, self._until_leases()))
            except TimeoutError:
                continue
        return found

    def _until_leases(self) -> float:
        left = self._no_lease_before - time.monotonic()
        return left if left > 0 else LONGEST_WAIT_SECONDS
