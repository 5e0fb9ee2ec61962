"""The dispatcher's promises, each as a short play of lanes and trials."""

import asyncio

import pytest

from sweeps import dispatcher as module
from sweeps.dispatcher import Dispatcher

WORK = {"do": "trial"}


@pytest.fixture
def desk():
    return Dispatcher(max_failures=1)


def play(coroutine):
    return asyncio.run(coroutine)


async def lease(desk, lane="a", incarnation=1, seq=0):
    return await desk.take(lane, incarnation, seq, 0.0)


def end(state="complete", **more):
    return {"kind": "end", "end": {"state": state, **more}}


def areas(seq, objective=1.0):
    return {"kind": "areas", "seq": seq, "areas": {}, "objective": objective}


def test_jobs_are_leased_in_order_and_once(desk):
    async def story():
        for name in ("one", "two"):
            await desk.submit(name, WORK)
        first, second = await lease(desk, "a"), await lease(desk, "b")
        return first["job_id"], second["job_id"], await lease(desk, "c")

    assert play(story()) == ("one", "two", {"do": "wait"})


def test_a_job_that_comes_after_the_interrupt_ends_as_interrupted(desk):
    async def story():
        await desk.interrupt()
        await desk.submit("late", WORK)
        await desk.cancel("late", "pruned")
        return (await desk.poll("late", 0, 0.0))["end"]["state"], await lease(desk)

    assert play(story()) == ("interrupted", {"do": "wait"})


def test_the_same_seq_repeats_the_lease(desk):
    async def story():
        for name in ("one", "two"):
            await desk.submit(name, WORK)
        return [(await lease(desk, seq=seq))["job_id"] for seq in (0, 0, 1, 1)]

    assert play(story()) == ["one", "one", "two", "two"]


def test_submitting_again_attaches(desk):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk)
        await desk.submit("one", WORK)
        return await lease(desk, "b"), desk.leases.jobs["one"].lane

    assert play(story()) == ({"do": "wait"}, "a")


def test_reports_are_relayed_once_each(desk):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk)
        for seq in (1, 1, 2):
            await desk.post("a", 1, "one", 1, areas(seq))
        first = await desk.poll("one", 0, 0.0)
        rest = await desk.poll("one", 1, 0.0)
        return [r["seq"] for r in first["reports"]], [r["seq"] for r in rest["reports"]]

    assert play(story()) == ([1, 2], [2])


def test_a_new_incarnation_requeues_only_its_own_lanes_jobs(desk):
    async def story():
        for name in ("one", "two"):
            await desk.submit(name, WORK)
        await desk.join("a", 1)
        await desk.join("b", 1)
        await lease(desk, "a")
        await lease(desk, "b")
        await desk.join("a", 2)
        return [(job.state, job.attempt) for job in desk.leases.jobs.values()]

    assert play(story()) == [("queued", 2), ("running", 1)]


def test_a_dead_incarnation_is_not_heard(desk):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk, incarnation=1)
        await desk.join("a", 2)
        heard = await desk.post("a", 1, "one", 1, end())
        return heard, desk.leases.jobs["one"].state, await desk.take("a", 1, 5, 0.0)

    assert play(story()) == (False, "queued", {"do": "stop"})


@pytest.mark.parametrize(("errors", "state", "attempt"), [(1, "queued", 2), (2, "ended", 2)])
def test_errors_are_counted_by_trial(desk, errors, state, attempt):
    async def story():
        await desk.submit("one", WORK)
        for number in range(errors):
            await lease(desk, seq=number)
            await desk.post("a", 1, "one", number + 1, {"kind": "error", "error": "boom"})
        return desk.leases.jobs["one"]

    job = play(story())
    assert (job.state, job.attempt) == (state, attempt)
    if state == "ended":
        assert job.end == {"state": "failed", "error": "boom"}


@pytest.mark.parametrize(
    ("reported", "why", "state"),
    [
        ("stopped", "pruned", "pruned"),
        ("stopped", "interrupted", "interrupted"),
        ("complete", "pruned", "complete"),  # the cancellation came after the last step
        ("diverged", "pruned", "diverged"),
    ],
)
def test_a_cancelled_trial_ends_with_the_reason(desk, reported, why, state):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk)
        await desk.cancel("one", why)
        await desk.cancel("one", "failed")
        stop = await desk.watch("a", 1, "one", 1, 0.0)
        await desk.post("a", 1, "one", 1, end(reported))
        return stop, desk.leases.jobs["one"].end["state"]

    assert play(story()) == (True, state)


def test_a_queued_trial_that_is_cancelled_never_starts(desk):
    async def story():
        await desk.submit("one", WORK)
        await desk.cancel("one", "interrupted")
        return await lease(desk), (await desk.poll("one", 0, 0.0))["end"]["state"]

    assert play(story()) == ({"do": "wait"}, "interrupted")


def test_a_cancelled_trial_whose_lane_dies_is_not_tried_again(desk):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk)
        await desk.cancel("one", "pruned")
        await desk.join("a", 2)
        return desk.leases.jobs["one"].end["state"]

    assert play(story()) == "pruned"


def test_cancelling_wakes_the_watch_at_once(desk):
    async def story():
        await desk.submit("one", WORK)
        await lease(desk)
        watch = asyncio.create_task(desk.watch("a", 1, "one", 1, 10.0))
        await asyncio.sleep(0)
        await desk.cancel("one", "pruned")
        return await asyncio.wait_for(watch, 1.0)

    assert play(story()) is True


def test_a_restarted_dispatcher_adopts_what_lanes_hold(monkeypatch):
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 0.2)

    async def story():
        desk = Dispatcher(max_failures=1, restarted=True)
        unknown = await desk.poll("one", 0, 0.0)
        await desk.submit("one", WORK)
        await desk.submit("two", WORK)
        early = await desk.take("b", 1, 0, 0.0)
        go_on = not await desk.watch("a", 1, "one", 2, 0.0)
        late = await desk.take("b", 1, 0, 5.0)
        return unknown["known"], early, go_on, late["job_id"], desk.leases.jobs["one"].attempt

    assert play(story()) == (False, {"do": "wait"}, True, "two", 2)


def test_stop_sends_lanes_home_and_ends_all(desk):
    async def story():
        await desk.submit("one", WORK)
        await desk.submit("two", WORK)
        await lease(desk)
        await desk.stop()
        drained_early = await desk.drain(0.0)
        await desk.post("a", 1, "one", 1, end("stopped"))
        assert not await desk.join("b", 1)
        return (
            (await lease(desk, seq=1))["do"],
            drained_early,
            await desk.drain(0.0),
            (await desk.ended_since(0, 0, 0.0))["ended"],
        )

    do, early, drained, ended = play(story())
    assert (do, early, drained) == ("stop", False, True)
    assert {job["job_id"]: job["end"]["state"] for job in ended} == {"one": "interrupted", "two": "interrupted"}


def test_lanes_that_come_up_again_without_work_are_counted(desk):
    async def story():
        for incarnation in (1, 2, 3):
            assert await desk.join("a", incarnation)
        idle = (await desk.status())["lanes"]["a"]["idle_incarnations"]
        await desk.submit("one", WORK)
        await lease(desk, incarnation=3)
        await desk.post("a", 3, "one", 1, {"kind": "progress", "step": 1})
        await desk.join("a", 4)
        return idle, (await desk.status())["lanes"]["a"]["idle_incarnations"]

    assert play(story()) == (2, 0)
