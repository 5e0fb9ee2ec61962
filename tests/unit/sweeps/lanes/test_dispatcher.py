"""The dispatcher's promises, each as a short play of lanes and trials."""

import asyncio
import uuid

import pytest

from sweeps.lanes import dispatcher as module
from sweeps.lanes.dispatcher import Dispatcher
from sweeps.lanes.job_queue import JobQueue

WORK = {"do": "trial"}
WAIT, STOP = {"do": "wait"}, {"do": "stop"}


@pytest.fixture
def dispatcher():
    return Dispatcher(max_failures=1)


@pytest.fixture
def held(dispatcher):
    """A dispatcher whose job "one" is held by lane a."""
    asyncio.run(submit(dispatcher, "one"))
    asyncio.run(lease(dispatcher))
    return dispatcher


async def submit(dispatcher, *names, **work):
    for name in names:
        await dispatcher.submit(name, {**WORK, **work})


async def lease(dispatcher, lane="a", incarnation=1, seq=0):
    return await dispatcher.take(lane, incarnation, seq, 0.0)


async def again(dispatcher, lane="a"):
    """Another incarnation of a lane comes up; its number."""
    return await dispatcher.join(lane, uuid.uuid4().hex)


async def end_of(dispatcher, name):
    return (await dispatcher.poll(name, 0, 0.0))["end"]["state"]


def end(state="complete", **more):
    return {"kind": "end", "end": {"state": state, **more}}


def error(**more):
    return {"kind": "error", "error": "boom", **more}


async def test_jobs_are_leased_in_order_and_once_and_the_same_seq_repeats_the_lease(dispatcher):
    await submit(dispatcher, "one", "two", "three")
    asked = [("a", 0), ("a", 0), ("a", 1), ("a", 1), ("b", 0)]
    leased = [(await lease(dispatcher, lane, seq=seq))["job_id"] for lane, seq in asked]
    assert leased == ["one", "one", "two", "two", "three"]
    assert await lease(dispatcher, "c") == WAIT


async def test_submitting_again_attaches_and_reports_are_relayed_once_each(held):
    await submit(held, "one")
    assert await lease(held, "b") == WAIT
    assert held.queue.jobs["one"].lane == "a"
    for seq in (1, 1, 2):
        await held.post("a", 1, "one", 1, {"kind": "areas", "seq": seq, "areas": {}, "objective": 1.0})
    for after, expected in ((0, [1, 2]), (1, [2])):
        assert [report["seq"] for report in (await held.poll("one", after, 0.0))["reports"]] == expected


async def test_a_new_incarnation_requeues_only_its_own_lanes_jobs(dispatcher):
    await submit(dispatcher, "one", "two")
    for lane in ("a", "b"):
        await lease(dispatcher, lane, await again(dispatcher, lane))
    await again(dispatcher)
    assert [(job.state, job.attempt) for job in dispatcher.queue.jobs.values()] == [("queued", 2), ("running", 1)]


async def test_a_dead_incarnation_is_not_heard(held):
    await again(held)
    assert not await held.post("a", 1, "one", 1, end())
    assert held.queue.jobs["one"].state == "queued"
    assert await lease(held, seq=5) == STOP


@pytest.mark.parametrize(("errors", "state", "attempt"), [(1, "queued", 2), (2, "ended", 2)])
async def test_errors_are_counted_by_trial(dispatcher, errors, state, attempt):
    await submit(dispatcher, "one")
    for number in range(errors):
        await lease(dispatcher, seq=number)
        await dispatcher.post("a", 1, "one", number + 1, error())
    job = dispatcher.queue.jobs["one"]
    assert (job.state, job.attempt) == (state, attempt)
    assert job.end == ({"state": "failed", "error": "boom"} if state == "ended" else None)


@pytest.mark.parametrize(
    ("reported", "why", "state"),
    [
        ("stopped", "pruned", "pruned"),
        ("stopped", "interrupted", "interrupted"),
        ("complete", "pruned", "complete"),  # the cancellation came after the last step
        ("diverged", "pruned", "diverged"),
        ("preempted", "pruned", "pruned"),  # it was cancelled before its lane left
    ],
)
async def test_a_cancelled_trial_ends_with_the_reason(held, reported, why, state):
    await held.cancel("one", why)
    await held.cancel("one", "failed")
    assert await held.watch("a", 1, "one", 1, 0.0) == why
    assert await held.watch("b", 1, "one", 1, 0.0) == "lost"
    await held.post("a", 1, "one", 1, end(reported, steps=3))
    assert held.queue.jobs["one"].end == {"state": state, "steps": 3}


async def test_a_trial_that_is_cancelled_in_the_queue_or_comes_after_the_interrupt_never_starts(dispatcher):
    await submit(dispatcher, "one")
    await dispatcher.cancel("one", "interrupted")
    assert await lease(dispatcher) == WAIT
    await dispatcher.interrupt()
    await submit(dispatcher, "late")
    await dispatcher.cancel("late", "pruned")
    assert [await end_of(dispatcher, name) for name in ("one", "late")] == ["interrupted", "interrupted"]
    assert await lease(dispatcher) == WAIT


async def test_cancelling_wakes_the_watch_at_once_and_the_trial_of_a_lane_that_then_dies_is_not_tried_again(held):
    watch = asyncio.create_task(held.watch("a", 1, "one", 1, 10.0))
    await asyncio.sleep(0)
    await held.cancel("one", "pruned")
    assert await asyncio.wait_for(watch, 1.0) == "pruned"
    await again(held)
    assert held.queue.jobs["one"].end["state"] == "pruned"


async def test_a_restarted_dispatcher_adopts_what_lanes_hold(monkeypatch):
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 0.2)
    dispatcher = Dispatcher(max_failures=1, restarted=True)
    assert not (await dispatcher.poll("one", 0, 0.0))["known"]
    await dispatcher.recall({}, {}, [])
    await submit(dispatcher, "one", "two")
    assert await lease(dispatcher, "b") == WAIT
    assert not await dispatcher.watch("a", 1, "one", 2, 0.0)
    assert (await dispatcher.take("b", 1, 0, 5.0))["job_id"] == "two"
    assert dispatcher.queue.jobs["one"].attempt == 2


async def test_stop_sends_lanes_home_and_ends_all(dispatcher):
    await submit(dispatcher, "one", "two")
    await lease(dispatcher)
    await dispatcher.stop()
    assert not await dispatcher.drain(0.0)
    await dispatcher.post("a", 1, "one", 1, end("stopped"))
    assert not await again(dispatcher, "b")
    assert await lease(dispatcher, seq=1) == STOP
    assert await dispatcher.drain(0.0)
    ended = (await dispatcher.ended_since(0, 0, 0.0))["ended"]
    assert {job["job_id"]: job["end"]["state"] for job in ended} == {"one": "interrupted", "two": "interrupted"}


async def test_lanes_that_come_up_again_without_work_are_counted(dispatcher):
    async def idle():
        return (await dispatcher.status())["lanes"]["a"]["idle_incarnations"]

    incarnation = [await again(dispatcher) for _ in range(3)][-1]
    assert await idle() == 2
    await submit(dispatcher, "one")
    await lease(dispatcher, incarnation=incarnation)
    await dispatcher.post("a", incarnation, "one", 1, {"kind": "progress", "step": 1})
    await again(dispatcher)
    assert await idle() == 0


async def test_a_lost_lanes_jobs_are_queued_at_once_and_it_is_not_heard_any_more(dispatcher):
    await submit(dispatcher, "one")
    incarnation = await again(dispatcher)
    await lease(dispatcher, incarnation=incarnation)
    assert await dispatcher.lost("a", "worker 1: RuntimeError: memory ran out") == incarnation
    (told,) = dispatcher.queue.jobs["one"].errors
    assert told == "lost: the worker of a ended: worker 1: RuntimeError: memory ran out"
    assert await lease(dispatcher, "b") == {"do": "work", "job_id": "one", "attempt": 2}
    assert not await dispatcher.post("a", incarnation, "one", 1, end())
    assert await lease(dispatcher, incarnation=incarnation, seq=1) == STOP
    assert await again(dispatcher) > incarnation
    assert await dispatcher.lost("never up") == 0


@pytest.mark.parametrize("clock", [[50, 40, 7], [7, 7, 7], [1, 2, 3]])
def test_incarnations_are_numbered_upwards_whatever_the_clock_does(clock):
    queue = JobQueue(1, lambda _job: None, clock_ns=iter(clock).__next__)
    numbers = [queue.join("a", start) for start in ("x", "x", "y", "z", "z")]
    assert numbers[0] == numbers[1] < numbers[2] < numbers[3] == numbers[4]


async def test_a_restarted_dispatcher_hands_out_nothing_before_it_knows_what_has_been_done(monkeypatch):
    monkeypatch.setattr(module, "ADOPTION_SECONDS", 0.0)
    done = {"job_id": "one", "work": WORK, "attempt": 1, "end": {"state": "complete"}}
    dispatcher = Dispatcher(max_failures=1, restarted=True)
    await submit(dispatcher, "one", "two", "three")  # by Tune trials
    assert await lease(dispatcher) == WAIT
    await dispatcher.recall({"base": WORK}, {"two": "pruned"}, [done])
    assert [(await lease(dispatcher, seq=seq)).get("job_id") for seq in range(3)] == ["three", "base", None]
    assert [await end_of(dispatcher, name) for name in ("one", "two")] == ["complete", "pruned"]


async def test_of_two_incarnations_that_a_young_dispatcher_hears_the_later_counts(held):
    assert (await lease(held, incarnation=2))["job_id"] == "one"
    assert await lease(held, seq=1) == STOP


async def test_a_lane_that_asks_a_restarted_dispatcher_for_its_work_waits_until_that_is_known():
    dispatcher = Dispatcher(max_failures=1, restarted=True)
    assert await dispatcher.work_of("one", 0.0) is None
    asked = asyncio.create_task(dispatcher.work_of("one", 10.0))
    await dispatcher.watch("a", 1, "one", 1, 0.0)  # adopts it
    await submit(dispatcher, "one")
    assert await asyncio.wait_for(asked, 1.0) == WORK


async def test_an_error_that_trials_shared_is_nobodys_and_each_is_tried_again_by_itself(dispatcher):
    await submit(dispatcher, "one", "two", slots=2)
    for seq, name in enumerate(("one", "two")):
        await lease(dispatcher, seq=seq)
        await dispatcher.post("a", 1, name, 1, error(shared=True))
    assert (await lease(dispatcher, seq=2))["attempt"] == 2
    assert (await dispatcher.work_of("one", 0.0))["slots"] == 1
    await dispatcher.post("a", 1, "one", 2, error(shared=False))
    await lease(dispatcher, seq=3)
    await dispatcher.post("a", 1, "one", 3, error(shared=False))
    assert await end_of(dispatcher, "one") == "failed"  # max_failures is 1: the shared error did not count
    assert dispatcher.queue.jobs["two"].errors == []


async def test_trials_whose_worker_is_lost_twice_are_tried_one_at_a_time(dispatcher):
    dispatcher.queue.max_failures = 5
    await submit(dispatcher, "one", "two", slots=2)
    slots = []
    for _ in range(3):
        incarnation = await again(dispatcher)
        for seq in (0, 1):
            await lease(dispatcher, incarnation=incarnation, seq=seq)
        slots.append([(await dispatcher.work_of(name, 0.0))["slots"] for name in ("one", "two")])
    assert slots == [[2, 2], [2, 2], [1, 1]]


async def test_a_preempted_trial_is_queued_again_and_has_not_failed(dispatcher):
    await submit(dispatcher, "one")
    for number in range(5):
        await lease(dispatcher, seq=number)
        await dispatcher.post("a", 1, "one", number + 1, end("preempted", steps=number))
    await lease(dispatcher, seq=5)
    await dispatcher.post("a", 1, "one", 6, end())
    (job,) = (await dispatcher.ended_since(0, 0, 0.0))["ended"]
    assert (job["end"]["state"], job["attempt"], job["preempted"]) == ("complete", 6, 5)


async def test_a_lane_that_leaves_gives_back_what_it_has_not_begun_and_gets_no_more(held):
    await held.leave("a", 1)
    assert await lease(held, seq=1) == STOP
    assert await lease(held, "b") == {"do": "work", "job_id": "one", "attempt": 2}
    await held.leave("a", 0)
    assert held.queue.jobs["one"].errors == []


async def test_a_full_disk_fails_no_job_and_stops_the_leasing(held):
    full = {"file": "/sweeps/demo/trials/one/curve.jsonl", "reason": "No space left on device"}
    report = {"kind": "error", "error": "…", "shared": False, "disk_full": full}
    assert not await held.post("a", 1, "one", 1, report)
    status = await held.status()
    assert (status["jobs"]["one"]["state"], status["disk_full"]) == ("queued", full)
    assert await lease(held, seq=1) == WAIT


async def test_a_lane_that_is_given_back_hands_its_trial_on_and_gets_no_more(dispatcher):
    await submit(dispatcher, "one", "two")
    incarnation = await again(dispatcher, "a")
    assert (await lease(dispatcher, "a", incarnation))["job_id"] == "one"
    watching = asyncio.create_task(dispatcher.watch("a", incarnation, "one", 1, 30.0))
    await asyncio.sleep(0)
    for _ in range(2):
        await dispatcher.release(["a"])
    assert await asyncio.wait_for(watching, 5) == "released"
    await dispatcher.post("a", incarnation, "one", 1, end("preempted", steps=3))
    assert await lease(dispatcher, "a", incarnation, seq=1) == STOP
    await dispatcher.leave("a", incarnation)
    job = dispatcher.queue.jobs["one"]
    assert (job.state, job.attempt, job.preempted, job.errors) == ("queued", 2, 1, [])
    assert (await lease(dispatcher, "b"))["job_id"] == "one"
    assert (await dispatcher.status())["lanes"]["a"]["up"] is False


async def test_a_lane_that_is_given_back_before_it_came_up_ends_at_once(dispatcher):
    await dispatcher.release(["a"])
    assert await again(dispatcher, "a") == 0
    assert (await dispatcher.status())["lanes"] == {}


async def test_a_job_that_was_leased_and_never_reached_its_lane_goes_to_another(dispatcher):
    await submit(dispatcher, "one")
    incarnation = await again(dispatcher, "a")
    await lease(dispatcher, "a", incarnation)
    await dispatcher.release(["a"])
    assert await lease(dispatcher, "a", incarnation) == STOP
    await dispatcher.leave("a", incarnation)
    assert (await lease(dispatcher, "b"))["job_id"] == "one"
