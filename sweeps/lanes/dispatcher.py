"""The dispatcher: hands jobs to lanes and relays what they report.

A plain asyncio class; `sweeps.lanes` runs it as a Ray actor. Both sides only ever call it, and every call may be
repeated, so it can be restarted at any moment: clients submit again (attach-or-create) and lanes that hold a job are
adopted when they next ask about it. Who holds what is kept by `sweeps.lanes.job_queue`, who waits for what by
`sweeps.lanes.wait_topics`.
"""

from __future__ import annotations

import time

from sweeps.lanes.job_queue import Job, JobQueue, Message
from sweeps.lanes.wait_topics import LONGEST_WAIT_SECONDS, WaitTopics

ADOPTION_SECONDS = 5.0

WORK, ENDS = ("work",), ("ends",)
"""Topics that somebody waits for, beside the ids of jobs."""


class Dispatcher:
    """Queue of jobs, leases of lanes, relay of reports.

    Args:
        max_failures: How often a job is queued again after an error or a lost lane.
        restarted: True when this object replaces one that died: lanes get a moment to claim the jobs they hold, and
            nothing is leased before the driver has said what it knows (`recall`).
    """

    def __init__(self, max_failures: int, *, restarted: bool = False) -> None:
        self.queue = JobQueue(max_failures, self._on_change)
        self.notices: list[Message] = []
        self.interrupted = False
        self.disk_full: Message | None = None  # where and why; nothing is leased then, and the driver ends the sweep
        self.stopping = False
        self._born = time.time_ns()
        self._recalled = not restarted
        self._no_lease_before = time.monotonic() + (ADOPTION_SECONDS if restarted else 0.0)
        self._topics = WaitTopics()

    # --- the driver and the Tune trials -------------------------------------------------------------------------

    async def submit(self, job_id: str, work: Message) -> None:
        """Queues a job, or attaches to the one of that id."""
        job = self.queue.add(job_id, work)
        if job.work is None:
            job.work = work
            self._topics.notify(job_id)
        if self.interrupted:
            self.queue.cancel(job, "interrupted")

    async def poll(self, job_id: str, after: int, timeout_seconds: float) -> Message:
        """Waits for reports of a job with a `seq` above `after`, or for its end.

        Returns:
            `known` (False asks the caller to submit again), `reports`, and `end` (None while the job goes on).
        """

        def answer() -> Message | None:
            job = self.queue.jobs.get(job_id)
            if job is None:
                return {"known": False, "reports": [], "end": None}
            fresh = [report for report in job.reports if report["seq"] > after]
            return {"known": True, "reports": fresh, "end": job.end} if fresh or job.end else None

        nothing = {"known": True, "reports": [], "end": None}
        return await self._topics.wait_for(job_id, answer, timeout_seconds) or nothing

    async def cancel(self, job_id: str, why: str) -> None:
        """Stops a job, once and for all; a later call changes nothing. `why` becomes the state it ends with."""
        if job := self.queue.jobs.get(job_id):
            self.queue.cancel(job, why)

    async def interrupt(self) -> None:
        """Cancels every job that has not ended, and those that are still on their way here."""
        self.interrupted = True
        for job in list(self.queue.jobs.values()):
            self.queue.cancel(job, "interrupted")

    async def drain(self, timeout_seconds: float) -> bool:
        """Waits until no job is queued or running; False when the time is up before."""
        queue = self.queue
        over = await self._topics.wait_for(ENDS, lambda: len(queue.ended) == len(queue.jobs) or None, timeout_seconds)
        return bool(over)

    async def recall(self, submitted: Message, cancelled: dict[str, str], over: list[Message]) -> None:
        """What the driver knows of the time before a restart; jobs of Tune trials are submitted again by these.

        Args:
            submitted: Work of the driver's own jobs that have not ended, by id.
            cancelled: Jobs that were to stop, and why.
            over: Jobs that ended, as `ended_since` gave them: they are not done again.
        """
        for job_id, work in submitted.items():
            await self.submit(job_id, work)
        for ended in over:
            job = self.queue.add(ended["job_id"], ended["work"])
            if job.state != "ended":
                self.queue.end(job, ended["end"])
        for job_id, why in cancelled.items():
            self.queue.cancel(self.queue.add(job_id), why)
        self._recalled = True
        self._topics.notify(WORK)

    async def stop(self) -> None:
        """Cancels every job and sends every lane home."""
        self.stopping = True
        await self.interrupt()
        self._topics.notify_all()

    async def ended_since(self, born: int, count: int, timeout_seconds: float) -> Message:
        """Waits for jobs that ended beyond those the caller knows.

        Args:
            born: Whose count it is, as the last answer said. That of a dispatcher that died counts as 0.
            count: How many ended jobs of this dispatcher the caller knows.
            timeout_seconds: How long to wait for more.

        Returns:
            `born`, and `ended` in order: each with `job_id`, `work`, `attempt`, `preempted` and its `end`.
        """
        known, ended = count if born == self._born else 0, self.queue.ended
        await self._topics.wait_for(ENDS, lambda: len(ended) > known or None, timeout_seconds)
        return {"born": self._born, "ended": [_over(job) for job in ended[known:]]}

    async def status(self, born: int = 0, after: int = 0) -> Message:
        """What jobs and lanes are doing, for the live view.

        Args:
            born: Whose `after` it is, as the last answer said.
            after: The last answer's `changes`: jobs that have not changed since are left out.
        """
        seen = after if born == self._born else 0
        jobs = {job.job_id: _shown(job) for job in self.queue.jobs.values() if job.changed_at > seen}
        lanes = {
            lane.name: {"idle_incarnations": lane.idle_incarnations, "up": not lane.lost}
            for lane in self.queue.lanes.values()
        }
        marks = {"born": self._born, "changes": self.queue.changes}
        return {"jobs": jobs, "lanes": lanes, "notices": list(self.notices), "disk_full": self.disk_full, **marks}

    # --- the lanes ----------------------------------------------------------------------------------------------

    async def join(self, lane: str, start: str) -> int:
        """A lane is up. Jobs that an earlier incarnation of the same lane held are queued again.

        Args:
            lane: Its name.
            start: What this incarnation calls itself; no other ever has.

        Returns:
            The incarnation's number; 0 sends it home before it has loaded anything.
        """
        incarnation = self.queue.join(lane, start)
        self._topics.notify(WORK)
        return 0 if self.stopping else incarnation

    async def lost(self, lane: str) -> int:
        """A lane's worker, or what watches over it, has died; see `JobQueue.lose`."""
        return self.queue.lose(lane)

    async def leave(self, lane: str, incarnation: int) -> None:
        """A lane goes, because its node does or it was sent home: jobs that it still holds are queued again."""
        self.queue.leave(lane, incarnation)
        self._topics.notify(WORK)

    async def take(self, lane: str, incarnation: int, seq: int, timeout_seconds: float) -> Message:
        """The lane's next job. Asking twice with the same `seq` gives the same job.

        Returns:
            `do` is "work" (with `job_id` and `attempt`), "wait" (ask again) or "stop" (go home).
        """

        def answer() -> Message | None:
            known = self.queue.heard(lane, incarnation)
            if self.stopping or known is None:
                return {"do": "stop"}
            may_lease = self._recalled and not self.disk_full and time.monotonic() >= self._no_lease_before
            if may_lease and seq not in known.leases:
                self.queue.lease_next(known, seq)
            job = self.queue.jobs.get(known.leases.get(seq, ""))
            return {"do": "work", "job_id": job.job_id, "attempt": job.attempt} if job else None

        adopting = self._no_lease_before - time.monotonic()
        look_again = adopting if adopting > 0 else LONGEST_WAIT_SECONDS
        return await self._topics.wait_for(WORK, answer, timeout_seconds, look_again) or {"do": "wait"}

    async def work_of(self, job_id: str, timeout_seconds: float) -> Message | None:
        """What is to be done for a job; None while it has not been submitted again after a restart.

        A trial that must be trained alone has one slot.
        """

        def answer() -> Message | None:
            job = self.queue.jobs.get(job_id)
            if job is None or job.work is None:
                return None
            return {**job.work, "slots": 1} if job.alone else job.work

        return await self._topics.wait_for(job_id, answer, timeout_seconds)

    async def post(self, lane: str, incarnation: int, job_id: str, attempt: int, report: Message) -> bool:
        """A lane's report on the job it holds: `kind` is "progress", "areas", "end", "error" or "notice".

        A notice is of no job; its `level` is "info" or "warning".

        Returns:
            Whether the lane should go on with the job.
        """
        if report["kind"] == "notice":
            self.notices.append({"level": report["level"], "text": report["text"]})
            return True
        job = self.queue.held(lane, incarnation, job_id, attempt)
        if job is None:
            return False
        self.queue.lanes[lane].did_work = True
        match report["kind"]:
            case "progress":
                job.latest = report
                self.queue.touch(job)
            case "areas":
                self._relay(job, report)
            case "error" if "disk_full" in report and not job.cancelled:
                self.disk_full = report["disk_full"]
                self.queue.put_back(job)
            case "error":
                self.queue.try_again(job, report["error"], shared=report.get("shared", False))
            case "end" if report["end"]["state"] == "preempted" and not job.cancelled:
                self.queue.put_back(job)
            case "end":
                state = report["end"]["state"]
                stopped = job.cancelled if job.cancelled and state in ("stopped", "preempted") else state
                self.queue.end(job, {**report["end"], "state": stopped})
        return job.cancelled is None and job.state == "running"

    async def watch(self, lane: str, incarnation: int, job_id: str, attempt: int, timeout_seconds: float) -> bool:
        """Waits until the lane should drop the job it holds; False when the time is up and it should go on."""

        def answer() -> bool | None:
            job = self.queue.held(lane, incarnation, job_id, attempt)
            return True if job is None or job.cancelled else None

        return await self._topics.wait_for(job_id, answer, timeout_seconds) or False

    # --- inside -------------------------------------------------------------------------------------------------

    def _relay(self, job: Job, report: Message) -> None:
        """A held-out point goes to who polls the job, once."""
        if any(report["seq"] == old["seq"] for old in job.reports):
            return
        job.reports.append(report)
        job.latest = {**job.latest, "areas": report["areas"], "objective": report["objective"]}
        self.queue.touch(job)
        self._topics.notify(job.job_id)

    def _on_change(self, job: Job) -> None:
        """Wakes those whom a job's new state concerns."""
        self._topics.notify(job.job_id)
        if job.state == "queued":
            self._topics.notify(WORK)
        elif job.state == "ended":
            self._topics.notify(ENDS)


def _over(job: Job) -> Message:
    """A job as the recorder reads it."""
    return {name: getattr(job, name) for name in ("job_id", "work", "attempt", "preempted", "end")}


def _shown(job: Job) -> Message:
    """A job as the live view reads it."""
    points = [{"step": report["step"], "objective": report["objective"]} for report in job.reports]
    return {
        "state": job.state,
        "attempt": job.attempt,
        "lane": job.lane,
        "end": job.end,
        "points": points,
        **job.latest,
    }
