"""Real sweeps of trials that pause, killed twice and resumed, and in packs: their numbers are an unpaused sweep's."""

import json
import signal
import subprocess

import numpy as np
import pytest

from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import command, environment, run_sweep
from tests.integration.sweep.test_driver_killed import lines, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRIALS = 16
FEW = 6  # the fewest that pause
# Given one by one, so that both sweeps train the same settings whatever has been killed.
POINTS = [
    {"peak_lr": float(peak), "warmup_fraction": 0.05, "decay_floor": 7e-4} for peak in np.geomspace(1e-3, 1e-2, TRIALS)
]


def arguments(storage, *more, trials=TRIALS):
    points = json.dumps(POINTS[:trials]).replace('"', "")
    return (
        "conf/smoke.yaml",
        f"storage_path={storage}",
        f"search.trials={trials}",
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the same sweep without pauses."""
    storage = tmp_path_factory.mktemp("whole")
    done = run_sweep(*arguments(storage, "search.trial_scheduler=none"))
    assert done.returncode == 0, done.stderr + done.stdout
    return storage / "smoke"


def test_paused_killed_and_resumed_trials_have_the_numbers_of_unpaused_ones(tmp_path, whole):
    folder = tmp_path / "smoke"
    killed_when(lambda: len(events(folder, "trial_paused")) >= 4, *arguments(folder.parent))
    killed_when(lambda: len(events(folder, "trial_ended")) >= TRIALS - trials_to_finish(TRIALS) + 2, "--resume", folder)
    assert len(events(folder, "trials_go_on")) == 1
    done = run_sweep("--resume", folder)
    assert done.returncode == 0, done.stderr + done.stdout

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


def test_pauses_in_packs_change_no_number(tmp_path, whole):
    done = run_sweep(*arguments(tmp_path, "resources.trials_per_lane=3", trials=FEW))
    assert done.returncode == 0, done.stderr + done.stdout
    folder = tmp_path / "smoke"
    (going_on,) = events(folder, "trials_go_on")
    assert len(going_on["trial_ids"]) == trials_to_finish(FEW) - 1
    ends, expected = ({end["trial_id"]: end for end in lines(place / "trials.jsonl")} for place in (folder, whole))
    assert ends.keys() == {f"t{number:04d}" for number in range(1, FEW + 1)}
    gone_on = [name for name, end in ends.items() if name != "t0001" and end["steps"] > round(PAUSE_AT * 16)]
    assert 1 <= len(gone_on) <= trials_to_finish(FEW) - 1
    for name, end in ends.items():
        ours, theirs = (lines(place / "trials" / name / "curve.jsonl") for place in (folder, whole))
        assert [step["step"] for step in ours] == list(range(1, end["steps"] + 1))
        assert [step["ids"] for step in ours] == [step["ids"] for step in theirs[: end["steps"]]]
        losses = [step["loss"] for step in theirs[: end["steps"]]]
        assert [step["loss"] for step in ours] == pytest.approx(losses, rel=1e-5)
        points = {point["step"]: objective(point) for point in expected[name]["checkpoints"]}
        scores = [points[point["step"]] for point in end["checkpoints"]]
        assert [objective(point) for point in end["checkpoints"]] == pytest.approx(scores, rel=1e-5)
        assert not (folder / "trials" / name / "state").exists()


def objective(point):
    return float(np.mean([area["nll"] for area in point["areas"].values()]))
