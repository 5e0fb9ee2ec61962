"""What the user is told about slots, and what a resumed sweep keeps."""

from types import SimpleNamespace

import pytest

from sweeps.phases.packing import choose_slots, words


def settled(slots, obstacle=None, seconds=None, speed_up=None):
    return {"slots": slots, "obstacle": obstacle, "seconds_per_step": seconds or {}, "speed_up": speed_up}


@pytest.mark.parametrize(
    ("asked", "found", "line"),
    [
        (4, settled(4), "4 trials side by side on each worker"),
        (
            4,
            settled(1, "all weights are trained"),
            "resources.trials_per_lane=4: one trial at a time on each worker, because all weights are trained",
        ),
        (
            "auto",
            settled(2, None, {1: 0.5, 2: 0.75, 4: 2.0}, 4 / 3),
            "2 trials side by side on each worker: 1.33 times the throughput of one "
            "(a step of 1: 0.5 s, 2: 0.75 s, 4: 2 s)",
        ),
        (
            "auto",
            settled(1, None, {1: 0.5, 2: 1.0}, 1.0),
            "one trial at a time on each worker: 1.00 times the throughput of one (a step of 1: 0.5 s, 2: 1 s)",
        ),
        ("auto", settled(1), "one trial at a time on each worker: nothing could be measured, memory is short"),
    ],
)
def test_one_line_says_how_many_and_why(asked, found, line):
    assert words(asked, found) == line


@pytest.mark.parametrize(("asked", "measured"), [("auto", False), ("6", True)])
def test_a_resumed_sweep_keeps_the_slots_that_were_measured(load, asked, measured):
    said, events = [], [{"event": "slots", "asked": "auto", "slots": 8, "obstacle": None, "speed_up": 1.99}]
    ledger = SimpleNamespace(read=lambda: (events, []), append=lambda kind, **_: said.append(kind))
    ends = {"slots": settled(6)}
    supervisor = SimpleNamespace(slots=1, say=said.append, run_jobs=lambda _: ends)
    choose_slots(SimpleNamespace(config=load(f"resources.trials_per_lane={asked}"), ledger=ledger), supervisor)
    assert supervisor.slots == (6 if measured else 8)
    line = (
        "6 trials side by side on each worker"
        if measured
        else "8 trials side by side on each worker, as at the sweep's start"
    )
    assert said == (["slots", line] if measured else [line])
