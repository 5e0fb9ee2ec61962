"""Trials that failed are trained again by a resume: each attempt has its line, and the last one counts."""

import pytest

from sweeps.ledger.history import ended_trials, past_of, trial_lines
from trainables.config.trial_spec import TrialSpec

PARAMS = {"peak_lr": 1e-3, "warmup_fraction": 0.1, "decay_floor": 1e-4}


def spec(name, kind="search"):
    return TrialSpec(
        trial_id=name, seed=0, params=PARAMS, kind=kind, replicate_of=None if kind == "search" else "t0001"
    )


def submitted(name, kind="search"):
    return {"event": "trial_submitted", "spec": spec(name, kind).model_dump()}


def ended(name, state, attempt=1, kind="search", steps=(4,)):
    points = [{"step": step, "path": "p", "areas": {}, "kept": True} for step in steps]
    record = {**spec(name, kind).model_dump(), "state": state, "checkpoints": points}
    return {"event": "trial_ended", "trial": record | ({} if attempt is None else {"attempt": attempt})}


def dropped(name, step):
    return {"event": "checkpoints_dropped", "checkpoints": [{"trial_id": name, "step": step}]}


def told(records):
    return [(record["trial_id"], record["state"], record.get("attempt", 1)) for record in records]


@pytest.mark.parametrize(
    ("events", "lines", "kept", "again"),
    [
        ([ended("t0001", "failed")], [("t0001", "failed", 1)], [], ["t0001"]),
        ([ended("t0001", "failed", None)], [("t0001", "failed", 1)], [], ["t0001"]),  # by an earlier version
        (
            [ended("t0001", "failed"), ended("t0002", "complete"), ended("t0001", "complete", 2)],
            [("t0001", "failed", 1), ("t0001", "complete", 2), ("t0002", "complete", 1)],
            ["t0001", "t0002"],
            [],
        ),
        (
            [ended("t0001", "failed"), ended("t0001", "failed", 2)],
            [("t0001", "failed", 1), ("t0001", "failed", 2)],
            [],
            ["t0001"],
        ),
        ([ended("t0001", "diverged"), ended("t0002", "pruned")], None, ["t0001", "t0002"], []),
        # The same end twice, by a version that recorded it twice: one line.
        ([ended("t0001", "failed"), ended("t0001", "failed")], [("t0001", "failed", 1)], [], ["t0001"]),
    ],
)
def test_a_failed_trial_is_unfinished_and_has_a_line_for_each_attempt(events, lines, kept, again):
    events = [submitted("t0001"), submitted("t0002"), *events]
    if "t0002" not in {event["trial"]["trial_id"] for event in events[2:]}:
        events.pop(1)
    past = past_of(events)
    assert [record["trial_id"] for record in past.ended] == kept
    assert [spec.trial_id for spec in past.unfinished] == again
    assert list(past.failed) == again
    assert told(trial_lines(events)) == (lines or told(ended_trials(events)))


def test_a_failed_trial_whose_proposal_the_ledger_has_lost_is_trained_again_and_so_are_other_kinds():
    events = [ended("t0003", "failed"), ended("t0001-s4", "failed", kind="replicate")]
    past = past_of(events)
    assert [spec.trial_id for spec in past.unfinished] == ["t0003"]
    assert (past.submitted, past.ended, past.failed) == (3, [], {"t0003": 1, "t0001-s4": 1})


def test_checkpoints_dropped_of_a_failed_attempt_are_not_missing_in_the_next():
    events = [ended("t0001", "failed"), dropped("t0001", 4), ended("t0001", "complete", 2, steps=(4, 8))]
    assert [point["kept"] for point in ended_trials(events)[0]["checkpoints"]] == [True, True]
    events.append(dropped("t0001", 8))
    assert [point["kept"] for point in ended_trials(events)[0]["checkpoints"]] == [True, False]
