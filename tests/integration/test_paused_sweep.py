"""A real sweep of trials that pause, killed twice and resumed: its numbers are those of an unpaused sweep."""

import json
import signal
import subprocess

import numpy as np
import pytest

from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import command, environment, run_sweep
from tests.integration.sweep.test_driver_killed import lines, wait_for

TRIALS = 16
# Given one by one, so that both sweeps train the same settings whatever has been killed.
POINTS = [
    {"peak_lr": float(peak), "warmup_fraction": 0.05, "decay_floor": 7e-4} for peak in np.geomspace(1e-3, 1e-2, TRIALS)
]


def arguments(storage, *more):
    points = json.dumps(POINTS).replace('"', "")
    return (
        "conf/smoke.yaml",
        f"storage_path={storage}",
        f"search.trials={TRIALS}",
        f"search.seed_points={points}",
        "training.checkpoints_at=[0.25,0.5,1.0]",
        "confirm.budget=0",
        "search.trial_scheduler=pause",
        *more,
    )


def events(folder, kind):
    return [event for event in Ledger(folder).read()[0] if event["event"] == kind] if folder.exists() else []


def killed_when(ready, *sweep_arguments):
    process = subprocess.Popen(
        command(*sweep_arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(ready, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_paused_killed_and_resumed_trials_have_the_numbers_of_unpaused_ones(tmp_path):
    folder, whole = tmp_path / "paused" / "smoke", tmp_path / "whole" / "smoke"
    killed_when(lambda: len(events(folder, "trial_paused")) >= 4, *arguments(folder.parent))
    killed_when(lambda: len(events(folder, "trial_ended")) >= TRIALS - trials_to_finish(TRIALS) + 2, "--resume", folder)
    assert len(events(folder, "trials_go_on")) == 1
    done = run_sweep("--resume", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert run_sweep(*arguments(whole.parent, "search.trial_scheduler=none")).returncode == 0

    ends, expected = ({end["trial_id"]: end for end in lines(place / "trials.jsonl")} for place in (folder, whole))
    assert ends.keys() == expected.keys() == {f"t{number:04d}" for number in range(1, TRIALS + 1)}
    complete = [name for name, end in ends.items() if end["state"] == "complete"]
    assert "t0001" in complete
    assert 2 <= len(complete) <= trials_to_finish(TRIALS)  # the evidence rule may stop one that goes on
    for name, end in ends.items():
        assert end["seed"] == expected[name]["seed"] == (int(name[1:]) - 1) % 4
        ours, theirs = (place / "trials" / name for place in (folder, whole))
        curve = lines(ours / "curve.jsonl")
        assert curve == lines(theirs / "curve.jsonl")[: end["steps"]]
        assert len(curve) == end["steps"]
        items = lines(ours / "heldout.jsonl")
        steps = {item["step"] for item in items}
        by_step = [item for item in lines(theirs / "heldout.jsonl") if item["step"] in steps]
        assert items == by_step
        same = [point for point in expected[name]["checkpoints"] if point["step"] in steps]
        assert [point["areas"] for point in end["checkpoints"]] == [point["areas"] for point in same]
        assert not (ours / "state").exists()
    stopped = [end for end in ends.values() if end["state"] == "pruned" and end["steps"] == round(PAUSE_AT * 16)]
    assert {finding["rule"] for end in stopped for finding in end["findings"]} >= {"not_among_best"}
    best_at_pause = sorted(ends, key=lambda name: objective(expected[name]["checkpoints"][0]))
    assert {end["trial_id"] for end in stopped}.isdisjoint(best_at_pause[:3])


def objective(point):
    return float(np.mean([area["nll"] for area in point["areas"].values()]))
