"""No wake-up is lost, however the calls of lanes, trials and the driver fall between each other.

Waits have no time limit here: a wait that nobody wakes never ends, and the test with it.
"""

import asyncio
import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.lanes.dispatcher import Dispatcher
from sweeps.lanes.wait_topics import WaitTopics

HANGS_AFTER_SECONDS = 20.0


class Endless(WaitTopics):
    """Waits as long as it takes."""

    async def _notified(self, topic, seconds):
        await super()._notified(topic, None)


class Play:
    """Lanes, Tune trials, a recorder and who cancels, each pausing as often as it is told between its calls."""

    def __init__(self, lanes, jobs, errors, cancelled, restarts, pauses):
        self.dispatcher = Dispatcher(max_failures=1)
        self.dispatcher._topics = Endless()
        self.lanes, self.jobs = lanes, [f"t{number}" for number in range(jobs)]
        self.errors, self.cancelled, self.restarts = set(errors), cancelled, set(restarts)
        self.pauses = itertools.cycle(pauses)
        self.taken = 0

    async def pause(self):
        for _ in range(next(self.pauses)):
            await asyncio.sleep(0)

    async def run(self):
        lanes = [asyncio.create_task(self.lane(f"lane-{number}")) for number in range(self.lanes)]
        recorder = asyncio.create_task(self.recorder())
        canceller = asyncio.create_task(self.canceller())
        relayed = await asyncio.gather(*(self.trial(job) for job in self.jobs))
        await canceller
        assert await self.dispatcher.drain(math.inf)
        recorded = await recorder
        await self.dispatcher.stop()
        await asyncio.gather(*lanes)
        return relayed, recorded

    async def trial(self, job):
        await self.pause()
        await self.dispatcher.submit(job, {"do": "trial"})
        seen = []
        while True:
            answer = await self.dispatcher.poll(job, len(seen), math.inf)
            seen += [report["seq"] for report in answer["reports"]]
            if answer["end"]:
                return seen, answer["end"]["state"]
            await self.pause()

    async def canceller(self):
        for number in self.cancelled:
            await self.pause()
            await self.dispatcher.cancel(self.jobs[number % len(self.jobs)], "pruned")

    async def recorder(self):
        ended, born = [], 0
        while len(ended) < len(self.jobs):
            answer = await self.dispatcher.ended_since(born, len(ended), math.inf)
            born = answer["born"]
            ended += [job["job_id"] for job in answer["ended"]]
            await self.pause()
        return ended

    async def lane(self, name):
        incarnation, seq = await self.dispatcher.join(name, f"{name} 1"), 0
        while (answer := await self.dispatcher.take(name, incarnation, seq, math.inf))["do"] != "stop":
            seq += 1
            self.taken += 1
            if self.taken in self.restarts:  # the worker is lost; its lane comes up again
                await self.pause()
                incarnation, seq = await self.dispatcher.join(name, f"{name} {self.taken}"), 0
                continue
            await self.train((name, incarnation, answer["job_id"], answer["attempt"]), self.taken in self.errors)

    async def train(self, who, goes_wrong):
        watch = asyncio.create_task(self.dispatcher.watch(*who, math.inf))
        for seq in (1, 2):
            await self.pause()
            await self.dispatcher.post(*who, {"kind": "progress", "step": seq})
            await self.dispatcher.post(*who, {"kind": "areas", "seq": seq, "areas": {}, "objective": 1.0, "step": seq})
        await self.pause()
        stopped = watch.done()
        end = {"kind": "end", "end": {"state": "stopped" if stopped else "complete"}}
        await self.dispatcher.post(*who, {"kind": "error", "error": "boom"} if goes_wrong else end)
        assert await watch  # the job is over or no longer this lane's: whoever watched it must hear of it


@settings(max_examples=200, deadline=None)
@given(
    lanes=st.integers(1, 4),
    jobs=st.integers(1, 6),
    errors=st.sets(st.integers(1, 8), max_size=3),
    cancelled=st.lists(st.integers(0, 5), max_size=3),
    restarts=st.sets(st.integers(1, 8), max_size=2),
    pauses=st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_every_wait_ends_and_every_end_is_recorded_once(lanes, jobs, errors, cancelled, restarts, pauses):
    play = Play(lanes, jobs, errors, cancelled, restarts, pauses)
    relayed, recorded = asyncio.run(asyncio.wait_for(play.run(), HANGS_AFTER_SECONDS))
    assert sorted(recorded) == sorted(play.jobs)
    for seen, state in relayed:
        assert state in ("complete", "pruned", "failed")
        assert seen == sorted(set(seen))
        assert state != "complete" or seen == [1, 2]


async def test_a_report_wakes_only_the_waiters_for_its_job():
    woken = []

    class Counting(WaitTopics):
        def notify(self, *topics):
            woken.extend(topic for topic in topics if topic in self._waiting)
            super().notify(*topics)

    dispatcher = Dispatcher(max_failures=0)
    dispatcher._topics = Counting()
    waits = []
    for number in range(3):
        job, lane = f"t{number}", f"lane-{number}"
        await dispatcher.submit(job, {})
        await dispatcher.take(lane, 1, 0, 0.0)
        calls = dispatcher.poll(job, 0, 1.0), dispatcher.watch(lane, 1, job, 1, 1.0)
        waits += [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    await dispatcher.post("lane-0", 1, "t0", 1, {"kind": "progress", "step": 1})
    await dispatcher.post("lane-1", 1, "t1", 1, {"kind": "areas", "seq": 1, "areas": {}, "objective": 1.0})
    assert woken == ["t1"]
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert dispatcher._topics._waiting == {}, "a wait that is over leaves nothing behind"


async def test_the_status_holds_what_has_changed_since():
    dispatcher = Dispatcher(max_failures=0)

    async def changed(*marks):
        return set((await dispatcher.status(*marks))["jobs"])

    for name in ("one", "two"):
        await dispatcher.submit(name, {})
    first = await dispatcher.status()
    marks = first["born"], first["changes"]
    assert set(first["jobs"]) == {"one", "two"}
    assert await changed(*marks) == set()
    await dispatcher.cancel("two", "pruned")
    assert await changed(*marks) == {"two"}
    assert await changed(1, 9) == {"one", "two"}, "the marks of a dispatcher that died count for nothing"
