"""How a replicate's record is read: at the step that was chosen before it was trained."""

from types import SimpleNamespace

import pytest

from sweeps.confirm.replicates import Replicate
from sweeps.phases.confirm import best_step, choose, replicate_of
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


def board(*rows, winner="t1", tied=()):
    rows = [
        {"trial_id": name, "rank": rank, "state": state, "params": {"peak_lr": lr}} for name, rank, state, lr in rows
    ]
    return {"rows": rows, "winner_setting": winner, "tied": [{"trial_id": name} for name in tied]}


A, B, C = ("t1", 1, "complete", 1e-3), ("t2", 2, "complete", 1.1e-3), ("t3", 3, "complete", 2e-3)


@pytest.mark.parametrize(
    ("found", "overrides", "chosen", "said"),
    [
        (board(A, B, C), (), ["t1", "t3"], "the spread between seeds is not known"),
        (board(A, B, C, winner="t3"), (), ["t3", "t1"], "the spread between seeds is not known"),
        (board(A, B, C, tied=("t2", "t3")), (), ["t1", "t3"], "no significant difference: t1, t3"),
        (board(A, B, C), ("space.peak_lr=1e-3",), ["t1", "t2"], "the spread between seeds is not known"),
        (board(A, ("t2", None, "pruned", 3e-3), C), (), ["t1", "t3"], "the spread"),
        (board(A, ("t2", 2, "pruned", 3e-3), C), (), ["t1", "t3"], "the spread"),  # complete settings only
        (board(A, B), (), ["t1"], "have a peak LR within 0.15 decades of that of t1"),
        (board(A), (), ["t1"], "t1 is the only one that was completed"),
        (board(A, B, C), ("confirm.seed_sd=0.01",), ["t1"], "t1 is significantly better than all others"),
        (board(("t1", None, "diverged", 1e-3), winner=None), (), [], "no setting was completed"),
    ],
)
def test_who_is_confirmed_and_why_nobody(load, monkeypatch, found, overrides, chosen, said):
    monkeypatch.setattr("sweeps.phases.confirm.leaderboard", lambda _: found)
    events, lines, kept = [], [], []
    sweep = SimpleNamespace(
        config=load(*overrides), ledger=SimpleNamespace(append=lambda event, **fields: events.append(fields))
    )
    cleaner = SimpleNamespace(protect=kept.extend)
    supervisor = SimpleNamespace(say=lines.append, recorder=SimpleNamespace(cleaner=cleaner))
    assert list(choose(sweep, supervisor)) == kept == chosen
    assert [event["contenders"] for event in events] == ([chosen] if chosen else [])
    assert said in lines[0]
