"""The dispatcher's promises, each as a short play of lanes and trials."""

import asyncio
import uuid

import pytest

from sweeps.lanes import dispatcher as module
from sweeps.lanes.dispatcher import Dispatcher
from sweeps.lanes.job_queue import JobQueue

WORK = {"do": "trial"}


@pytest.fixture
def dispatcher():
    return Dispatcher(max_failures=1)


def play(coroutine):
    return asyncio.run(coroutine)


async def lease(dispatcher, lane="a", incarnation=1, seq=0):
    return await dispatcher.take(lane, incarnation, seq, 0.0)


async def again(dispatcher, lane="a"):
    """Another incarnation of a lane comes up; its number."""
    return await dispatcher.join(lane, uuid.uuid4().hex)


def end(state="complete", **more):
    return {"kind": "end", "end": {"state": state, **more}}


def areas(seq, objective=1.0):
    return {"kind": "areas", "seq": seq, "areas": {}, "objective": objective}


def test_jobs_are_leased_in_order_and_once(dispatcher):
    async def story():
        for name in ("one", "two"):
            await dispatcher.submit(name, WORK)
        first, second = await lease(dispatcher, "a"), await lease(dispatcher, "b")
        return first["job_id"], second["job_id"], await lease(dispatcher, "c")

    assert play(story()) == ("one", "two", {"do": "wait"})


def test_a_job_that_comes_after_the_interrupt_ends_as_interrupted(dispatcher):
    async def story():
        await dispatcher.interrupt()
        await dispatcher.submit("late", WORK)
        await dispatcher.cancel("late", "pruned")
        return (await dispatcher.poll("late", 0, 0.0))["end"]["state"], await lease(dispatcher)

    assert play(story()) == ("interrupted", {"do": "wait"})


def test_the_same_seq_repeats_the_lease(dispatcher):
    async def story():
        for name in ("one", "two"):
            await dispatcher.submit(name, WORK)
        return [(await lease(dispatcher, seq=seq))["job_id"] for seq in (0, 0, 1, 1)]

    assert play(story()) == ["one", "one", "two", "two"]


def test_submitting_again_attaches(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        await dispatcher.submit("one", WORK)
        return await lease(dispatcher, "b"), dispatcher.queue.jobs["one"].lane

    assert play(story()) == ({"do": "wait"}, "a")


def test_reports_are_relayed_once_each(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        for seq in (1, 1, 2):
            await dispatcher.post("a", 1, "one", 1, areas(seq))
        first = await dispatcher.poll("one", 0, 0.0)
        rest = await dispatcher.poll("one", 1, 0.0)
        return [r["seq"] for r in first["reports"]], [r["seq"] for r in rest["reports"]]

    assert play(story()) == ([1, 2], [2])


def test_a_new_incarnation_requeues_only_its_own_lanes_jobs(dispatcher):
    async def story():
        for name in ("one", "two"):
            await dispatcher.submit(name, WORK)
        for lane in ("a", "b"):
            await lease(dispatcher, lane, await again(dispatcher, lane))
        await again(dispatcher)
        return [(job.state, job.attempt) for job in dispatcher.queue.jobs.values()]

    assert play(story()) == [("queued", 2), ("running", 1)]


def test_a_dead_incarnation_is_not_heard(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher, incarnation=1)
        await again(dispatcher)
        heard = await dispatcher.post("a", 1, "one", 1, end())
        return heard, dispatcher.queue.jobs["one"].state, await dispatcher.take("a", 1, 5, 0.0)

    assert play(story()) == (False, "queued", {"do": "stop"})


@pytest.mark.parametrize(("errors", "state", "attempt"), [(1, "queued", 2), (2, "ended", 2)])
def test_errors_are_counted_by_trial(dispatcher, errors, state, attempt):
    async def story():
        await dispatcher.submit("one", WORK)
        for number in range(errors):
            await lease(dispatcher, seq=number)
            await dispatcher.post("a", 1, "one", number + 1, {"kind": "error", "error": "boom"})
        return dispatcher.queue.jobs["one"]

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
def test_a_cancelled_trial_ends_with_the_reason(dispatcher, reported, why, state):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        await dispatcher.cancel("one", why)
        await dispatcher.cancel("one", "failed")
        stop = await dispatcher.watch("a", 1, "one", 1, 0.0)
        await dispatcher.post("a", 1, "one", 1, end(reported))
        return stop, dispatcher.queue.jobs["one"].end["state"]

    assert play(story()) == (True, state)


def test_a_queued_trial_that_is_cancelled_never_starts(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await dispatcher.cancel("one", "interrupted")
        return await lease(dispatcher), (await dispatcher.poll("one", 0, 0.0))["end"]["state"]

    assert play(story()) == ({"do": "wait"}, "interrupted")


def test_a_cancelled_trial_whose_lane_dies_is_not_tried_again(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        await dispatcher.cancel("one", "pruned")
        await again(dispatcher)
        return dispatcher.queue.jobs["one"].end["state"]

    assert play(story()) == "pruned"


def test_cancelling_wakes_the_watch_at_once(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        watch = asyncio.create_task(dispatcher.watch("a", 1, "one", 1, 10.0))
        await asyncio.sleep(0)
        await dispatcher.cancel("one", "pruned")
        return await asyncio.wait_for(watch, 1.0)

    assert play(story()) is True


def test_a_restarted_dispatcher_adopts_what_lanes_hold(monkeypatch):
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 0.2)

    async def story():
        dispatcher = Dispatcher(max_failures=1, restarted=True)
        unknown = await dispatcher.poll("one", 0, 0.0)
        await dispatcher.recall({}, {}, [])
        await dispatcher.submit("one", WORK)
        await dispatcher.submit("two", WORK)
        early = await dispatcher.take("b", 1, 0, 0.0)
        go_on = not await dispatcher.watch("a", 1, "one", 2, 0.0)
        late = await dispatcher.take("b", 1, 0, 5.0)
        return unknown["known"], early, go_on, late["job_id"], dispatcher.queue.jobs["one"].attempt

    assert play(story()) == (False, {"do": "wait"}, True, "two", 2)


def test_stop_sends_lanes_home_and_ends_all(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await dispatcher.submit("two", WORK)
        await lease(dispatcher)
        await dispatcher.stop()
        drained_early = await dispatcher.drain(0.0)
        await dispatcher.post("a", 1, "one", 1, end("stopped"))
        assert not await again(dispatcher, "b")
        return (
            (await lease(dispatcher, seq=1))["do"],
            drained_early,
            await dispatcher.drain(0.0),
            (await dispatcher.ended_since(0, 0, 0.0))["ended"],
        )

    do, early, drained, ended = play(story())
    assert (do, early, drained) == ("stop", False, True)
    assert {job["job_id"]: job["end"]["state"] for job in ended} == {"one": "interrupted", "two": "interrupted"}


def test_lanes_that_come_up_again_without_work_are_counted(dispatcher):
    async def story():
        incarnations = [await again(dispatcher) for _ in range(3)]
        idle = (await dispatcher.status())["lanes"]["a"]["idle_incarnations"]
        await dispatcher.submit("one", WORK)
        await lease(dispatcher, incarnation=incarnations[-1])
        await dispatcher.post("a", incarnations[-1], "one", 1, {"kind": "progress", "step": 1})
        await again(dispatcher)
        return idle, (await dispatcher.status())["lanes"]["a"]["idle_incarnations"]

    assert play(story()) == (2, 0)


def test_a_lost_lanes_jobs_are_queued_at_once_and_it_is_not_heard_any_more(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        incarnation = await again(dispatcher)
        await lease(dispatcher, incarnation=incarnation)
        assert await dispatcher.lost("a") == incarnation
        elsewhere = await lease(dispatcher, "b")
        heard = await dispatcher.post("a", incarnation, "one", 1, end())
        gone = await dispatcher.take("a", incarnation, 1, 0.0)
        back = await again(dispatcher)
        return elsewhere, heard, gone, back > incarnation, await dispatcher.lost("never up")

    assert play(story()) == ({"do": "work", "job_id": "one", "attempt": 2}, False, {"do": "stop"}, True, 0)


@pytest.mark.parametrize("clock", [[50, 40, 7], [7, 7, 7], [1, 2, 3]])
def test_incarnations_are_numbered_upwards_whatever_the_clock_does(clock):
    leases = JobQueue(1, lambda _job: None, clock_ns=iter(clock).__next__)
    numbers = [leases.join("a", start) for start in ("x", "x", "y", "z", "z")]
    assert numbers[0] == numbers[1] < numbers[2] < numbers[3] == numbers[4]


def test_a_restarted_dispatcher_hands_out_nothing_before_it_knows_what_has_been_done(monkeypatch):
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 0.0)
    done = {"job_id": "one", "work": WORK, "attempt": 1, "end": {"state": "complete"}}

    async def story():
        dispatcher = Dispatcher(max_failures=1, restarted=True)
        for name in ("one", "two", "three"):
            await dispatcher.submit(name, WORK)  # by Tune trials
        early = await lease(dispatcher)
        await dispatcher.recall({"base": WORK}, {"two": "pruned"}, [done])
        late = [(await lease(dispatcher, seq=seq)).get("job_id") for seq in range(3)]
        ends = [(await dispatcher.poll(name, 0, 0.0))["end"]["state"] for name in ("one", "two")]
        return early, late, ends

    assert play(story()) == ({"do": "wait"}, ["three", "base", None], ["complete", "pruned"])


def test_of_two_incarnations_that_a_young_dispatcher_hears_the_later_counts(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher, incarnation=4)
        newer = await lease(dispatcher, incarnation=5)
        return newer["job_id"], (await lease(dispatcher, incarnation=4, seq=1))["do"]

    assert play(story()) == ("one", "stop")


def test_a_lane_that_asks_a_restarted_dispatcher_for_its_work_waits_until_that_is_known():
    async def story():
        dispatcher = Dispatcher(max_failures=1, restarted=True)
        early = await dispatcher.work_of("one", 0.0)
        asked = asyncio.create_task(dispatcher.work_of("one", 10.0))
        await dispatcher.watch("a", 1, "one", 1, 0.0)  # adopts it
        await dispatcher.submit("one", WORK)
        return early, await asyncio.wait_for(asked, 1.0)

    assert play(story()) == (None, WORK)


def test_an_error_that_trials_shared_is_nobodys_and_each_is_tried_again_alone(dispatcher):
    async def story():
        for name in ("one", "two"):
            await dispatcher.submit(name, {**WORK, "slots": 2})
        for seq, name in enumerate(("one", "two")):
            await lease(dispatcher, seq=seq)
            await dispatcher.post("a", 1, name, 1, {"kind": "error", "error": "boom", "shared": True})
        again = await lease(dispatcher, seq=2)
        slots = (await dispatcher.work_of("one", 0.0))["slots"]
        await dispatcher.post("a", 1, "one", 2, {"kind": "error", "error": "boom", "shared": False})
        await lease(dispatcher, seq=3)
        await dispatcher.post("a", 1, "one", 3, {"kind": "error", "error": "boom", "shared": False})
        return (
            again["attempt"],
            slots,
            (await dispatcher.poll("one", 0, 0.0))["end"]["state"],
            dispatcher.queue.jobs["two"].errors,
        )

    assert play(story()) == (2, 1, "failed", [])  # max_failures is 1: the shared one did not count


def test_trials_whose_worker_is_lost_twice_are_tried_alone(dispatcher):
    async def story():
        dispatcher.queue.max_failures = 5
        for name in ("one", "two"):
            await dispatcher.submit(name, {**WORK, "slots": 2})
        seen = []
        for _ in range(3):
            incarnation = await again(dispatcher)
            for seq in (0, 1):
                await lease(dispatcher, incarnation=incarnation, seq=seq)
            seen.append([(await dispatcher.work_of(name, 0.0))["slots"] for name in ("one", "two")])
        return seen

    assert play(story()) == [[2, 2], [2, 2], [1, 1]]


def test_a_preempted_trial_is_queued_again_and_has_not_failed(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        for number in range(5):
            await lease(dispatcher, seq=number)
            await dispatcher.post("a", 1, "one", number + 1, end("preempted", steps=number))
        await lease(dispatcher, seq=5)
        await dispatcher.post("a", 1, "one", 6, end())
        return (await dispatcher.ended_since(0, 0, 0.0))["ended"]

    (job,) = play(story())
    assert (job["end"]["state"], job["attempt"], job["preempted"]) == ("complete", 6, 5)


def test_a_trial_that_was_cancelled_before_its_lane_left_has_ended(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        await dispatcher.cancel("one", "pruned")
        await dispatcher.post("a", 1, "one", 1, end("preempted", steps=3))
        return dispatcher.queue.jobs["one"].end

    assert play(story()) == {"state": "pruned", "steps": 3}


def test_a_lane_that_leaves_gives_back_what_it_has_not_begun_and_gets_no_more(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        await lease(dispatcher)
        await dispatcher.leave("a", 1)
        left = await lease(dispatcher, seq=1)
        other = await lease(dispatcher, "b")
        await dispatcher.leave("a", 0)
        return left, other["job_id"], other["attempt"], dispatcher.queue.jobs["one"].errors

    assert play(story()) == ({"do": "stop"}, "one", 2, [])


def test_a_full_disk_fails_no_job_and_stops_the_leasing(dispatcher):
    async def story():
        await dispatcher.submit("one", WORK)
        job = await lease(dispatcher)
        full = {"file": "/sweeps/demo/trials/one/curve.jsonl", "reason": "No space left on device"}
        report = {"kind": "error", "error": "…", "shared": False, "disk_full": full}
        goes_on = await dispatcher.post("a", 1, "one", job["attempt"], report)
        status = await dispatcher.status()
        return goes_on, status["jobs"]["one"]["state"], status["disk_full"] == full, await lease(dispatcher, seq=1)

    assert play(story()) == (False, "queued", True, {"do": "wait"})
