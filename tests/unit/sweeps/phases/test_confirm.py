"""How a replicate's record is read: at the step that was chosen before it was trained."""

import pytest

from sweeps.confirm.replicates import Replicate
from sweeps.phases.confirm import best_step, replicate_of
from trainables.evaluation.objective import Measure

WEIGHTS = {"a": 1.0, "b": 3.0}


def points(*objectives):
    """Checkpoints at steps 10, 20, …; area a is off the objective by as much as makes b's weight matter."""
    return [
        {"step": 10 * number, "areas": {"a": {"nll": value + 0.3}, "b": {"nll": value - 0.1}}}
        for number, value in enumerate(objectives, start=1)
    ]


def record(state="complete", checkpoints=(), **more):
    return {"trial_id": "t0-s8", "replicate_of": "t0", "seed": 8, "state": state, "checkpoints": checkpoints, **more}


@pytest.mark.parametrize(
    ("objectives", "step"), [((1.0,), 10), ((1.0, 0.9, 0.95), 20), ((1.0, 0.9, 0.9), 20), ((1.0, 0.9, 0.8), 30)]
)
def test_the_best_step_is_that_of_the_lowest_objective_the_earlier_of_equals(objectives, step):
    assert best_step(points(*objectives), WEIGHTS, Measure()) == step


@pytest.mark.parametrize(("step", "objective"), [(10, 1.0), (20, 0.7), (30, 0.9)])
def test_a_replicate_counts_at_the_step_given_and_not_where_it_is_lowest_or_last(step, objective):
    found = replicate_of(record(checkpoints=points(1.0, 0.7, 0.9)), step, WEIGHTS, Measure())
    assert found == Replicate("t0", 8, pytest.approx(objective))


@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_a_replicate_that_did_not_complete_has_no_objective_and_a_complete_one_must_have_been_scored(state):
    assert replicate_of(record(state, points(1.0)), 10, WEIGHTS, Measure()) == Replicate("t0", 8, None, state)
    with pytest.raises(ValueError, match=r"t0-s8 must have been scored at step 20, got \[10\]"):
        replicate_of(record(checkpoints=points(1.0)), 20, WEIGHTS, Measure())
