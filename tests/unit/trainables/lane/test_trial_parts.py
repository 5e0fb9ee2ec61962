"""A trial that pauses has two jobs, and is shown as one."""

import pytest

from trainables.lane.trial_parts import by_trial, has_ended, rest_id, trial_id_of

FIRST = {
    "job_id": "t2",
    "state": "ended",
    "attempt": 2,
    "lane": "lane-0",
    "end": {"state": "paused"},
    "points": [{"step": 5, "objective": 1.5}],
    "step": 5,
    "steps": 20,
}
REST = {"job_id": "t2+rest", "state": "queued", "attempt": 1, "lane": None, "end": None, "points": []}


def test_the_rest_of_a_paused_trial_follows_its_first_part():
    shown = by_trial({"t1": {**FIRST, "job_id": "t1"}, "t2": FIRST, "t2+rest": REST})
    assert shown["t1"] == {**FIRST, "job_id": "t1"}
    assert shown.keys() == {"t1", "t2"}
    assert shown["t2"] == {**FIRST, **REST, "attempt": 2, "began_at_step": 5, "points": FIRST["points"]}
    later = {**REST, "state": "running", "attempt": 2, "step": 12, "began_at_step": 10}
    later["points"] = [{"step": 10, "objective": 1.2}]
    joined = by_trial({"t2": FIRST, "t2+rest": later})["t2"]
    assert (joined["attempt"], joined["step"], joined["began_at_step"]) == (3, 12, 10)
    assert [point["step"] for point in joined["points"]] == [5, 10]


def test_the_rest_alone_as_a_resumed_sweep_has_it():
    assert by_trial({"t2+rest": REST}) == {"t2": REST}


@pytest.mark.parametrize(
    ("state", "end", "ended"),
    [
        ("running", None, False),
        ("ended", {"state": "paused"}, False),
        ("ended", {"state": "complete"}, True),
        ("ended", {"state": "pruned"}, True),
    ],
)
def test_a_paused_trial_has_not_ended(state, end, ended):
    assert has_ended({"state": state, "end": end}) is ended


def test_ids_lead_back_to_the_trial():
    assert trial_id_of(rest_id("t0007")) == trial_id_of("t0007") == "t0007"
