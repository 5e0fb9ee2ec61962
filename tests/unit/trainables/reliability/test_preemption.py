"""A lane whose node is to go keeps each trial as it stands; whoever goes on gives the same curve, to the bit."""

import json
from pathlib import Path

import pytest

from tests.unit.trainables.lane.helpers import JobSource, Lease, base, curve, lane_state_in, states_in
from tests.unit.trainables.training.helpers import Memory, lane, trial
from trainables.checkpoints.training_state import TrainingState
from trainables.lane.worker import serve
from trainables.reliability.preemption import ASK_EVERY_SECONDS, Preemption
from trainables.training.loop import Loop
from trainables.training.trial_run import TrialRun


class Notice(Preemption):
    """A notice that comes before the step after so many; asked before each."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    @property
    def is_due(self):
        return True

    def check(self):
        self.is_coming, self.left = self.left <= 0, self.left - 1
        return self.is_coming


def test_it_asks_now_and_then_until_the_answer_is_yes():
    now, answers, asked = [0.0], [False, True], []
    preemption = Preemption(lambda: (asked.append(now[0]), answers.pop(0))[1], lambda: now[0])
    seen = []
    for second in (0.0, ASK_EVERY_SECONDS, ASK_EVERY_SECONDS + 1, 2 * ASK_EVERY_SECONDS, 99.0):
        now[0] = second
        seen.append(preemption.is_due and preemption.check())
    assert seen == [False, False, False, True, True]
    assert asked == [ASK_EVERY_SECONDS, 2 * ASK_EVERY_SECONDS]


def train(loop, trial_run):
    loop.join(trial_run)
    while not (ended := loop.step()):
        pass
    return ended[0].outcome


@pytest.mark.parametrize(
    ("method", "steps", "kept"),
    [("lora", 4, 4), ("full", 4, 4), ("lora", 0, None), ("lora", 3, 3)],  # a checkpoint's state serves, too
)
def test_the_curve_is_whole_whatever_the_step(tiny, data, method, steps, kept, tmp_path):
    config = lane(method, lora={"r": 4, "alpha": 8.0, "dropout": 0.3}, checkpoints_at=[0.3, 1.0])
    whole, first, rest = Memory(), Memory(), Memory()
    expected = train(Loop(base(tiny, method)), TrialRun(data, trial(), config, whole.hooks()))
    states, written = states_in(tmp_path), []

    def keep(step, learnt):
        written.append(step)
        states.save(TrainingState(step, learnt, {}))

    hooks = first.hooks(save_state=keep, preemption=Notice(steps))
    left = train(Loop(base(tiny, method)), TrialRun(data, trial(), config, hooks))
    assert (left.state, left.steps) == ("preempted", steps)
    assert len(written) == len(set(written)), "nothing is kept twice"

    state = states.last({})
    assert (state.step if state else None) == kept
    trial_run = TrialRun(data, trial(), config, rest.hooks())
    if state:
        trial_run.resume_from(
            state.step, state.tensors, [json.loads(json.dumps(vars(record))) for record in first.records]
        )
    outcome = train(Loop(base(tiny, method)), trial_run)
    assert first.records + rest.records == whole.records
    assert (outcome.state, outcome.findings) == ("complete", expected.findings)


@pytest.fixture
def lane_state(tiny, data, tmp_path):
    return lambda name: lane_state_in(tmp_path / name, tiny, data, checkpoints_at=[0.3, 1.0])


def files(lane_state, name):
    folder = Path(lane_state.settings.output_dir) / "trials" / name
    return (folder / "heldout.jsonl").read_text(), curve(lane_state, name)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_lane_that_leaves_loses_no_step(lane_state, slots):
    """Alone and packed: the trials leave together, take no other trial in, and go on in a lane like it."""
    names = ["a", "b"][:slots]

    def leases(seed=7):
        return [Lease(name, slots, seed=seed + number) for number, name in enumerate(names)]

    undisturbed, other = lane_state("undisturbed"), leases()
    serve(undisturbed, JobSource(*other[1:]), other[0])

    leaving, first = lane_state("left"), leases()
    leaving.preemption = Notice(5 * slots)
    waiting = JobSource(*first[1:], Lease("late", slots))
    serve(leaving, waiting, first[0])
    assert [(lease.ended["state"], lease.ended["steps"]) for lease in first] == [("preempted", 5)] * slots
    assert [lease.job_id for lease in waiting.waiting] == ["late"]

    successor, second = lane_state("left"), leases()
    serve(successor, JobSource(*second[1:]), second[0])
    for lease, alike in zip(second, other, strict=True):
        assert lease.error is None
        assert (lease.ended["state"], lease.ended["went_on_from_step"]) == ("complete", 5)
        assert lease.ended["steps"] == alike.ended["steps"] == 11
        assert files(successor, lease.job_id) == files(undisturbed, lease.job_id)
        assert [r["seq"] for r in lease.reports if r["kind"] == "areas"] == [2]
