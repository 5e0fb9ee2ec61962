"""Real sweeps of trials that pause: killed twice, in packs, on several workers, in an object store, 64 of them.

Their numbers are those of an unpaused sweep.
"""

import json
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest

from sweeps.config.pausing import PAUSE_AT, trials_to_finish
from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import command, environment, run_sweep
from tests.integration.sweep.test_driver_killed import lines, wait_for
from tests.object_store_helpers import BUCKET, KEYS, endpoint
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import join_ledger

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


def compare_with_unpaused(folder, whole, same):
    """Hold each trial's curve and scores against the unpaused sweep's, by a function that makes the expected value."""
    ends, expected = ({end["trial_id"]: end for end in lines(place / "trials.jsonl")} for place in (folder, whole))
    assert ends.keys() == {f"t{number:04d}" for number in range(1, FEW + 1)}
    gone_on = [name for name, end in ends.items() if name != "t0001" and end["steps"] > round(PAUSE_AT * 16)]
    assert 1 <= len(gone_on) <= trials_to_finish(FEW) - 1
    for name, end in ends.items():
        ours, theirs = (lines(place / "trials" / name / "curve.jsonl") for place in (folder, whole))
        assert [step["step"] for step in ours] == list(range(1, end["steps"] + 1))
        assert [sorted(step["ids"]) for step in ours] == [sorted(step["ids"]) for step in theirs[: end["steps"]]]
        losses = [step["loss"] for step in theirs[: end["steps"]]]
        assert [step["loss"] for step in ours] == same(losses)
        points = {point["step"]: objective(point) for point in expected[name]["checkpoints"]}
        scores = [points[point["step"]] for point in end["checkpoints"]]
        assert [objective(point) for point in end["checkpoints"]] == same(scores)
        assert not (folder / "trials" / name / "state").exists()


@pytest.mark.parametrize(
    "resources",
    [
        ["resources.trials_per_lane=3"],
        ["resources.workers_per_lane=2", "training.batch_size=2"],  # the same four samples a step
    ],
    ids=["packed", "two workers"],
)
def test_pauses_in_packs_and_on_several_workers_change_no_number(tmp_path, whole, resources):
    done = run_sweep(*arguments(tmp_path, *resources, trials=FEW))
    assert done.returncode == 0, done.stderr + done.stdout
    (going_on,) = events(tmp_path / "smoke", "trials_go_on")
    assert len(going_on["trial_ids"]) == trials_to_finish(FEW) - 1
    compare_with_unpaused(tmp_path / "smoke", whole, lambda values: pytest.approx(values, rel=1e-5))


def test_trials_that_paused_in_an_object_store_go_on_on_a_machine_that_has_nothing_of_them(
    tmp_path, whole, monkeypatch
):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": endpoint(), "XDG_CACHE_HOME": str(tmp_path / "first")}.items():
        monkeypatch.setenv(name, value)
    remote = Remote(f"s3://{BUCKET}/paused/smoke")

    def paused():
        if not any(key.startswith("ledger/") for key in remote.listed()):
            return 0
        copy = tmp_path / f"copy-{time.monotonic_ns()}"
        copy.mkdir()
        join_ledger(remote, copy / "ledger.jsonl")
        return len(events(copy, "trial_paused"))

    killed_when(lambda: paused() >= 2, *arguments(f"s3://{BUCKET}/paused", trials=FEW))
    done = run_sweep("--resume", remote.url, XDG_CACHE_HOME=str(tmp_path / "second"))
    assert done.returncode == 0, done.stderr + done.stdout
    folder = tmp_path / "downloaded"
    for key in remote.listed():
        if key == "trials.jsonl" or (key.startswith("trials/") and (key.endswith("curve.jsonl") or "/state/" in key)):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(remote.get(key))
    compare_with_unpaused(folder, whole, list)


def test_64_paused_trials_hold_no_actor_and_no_memory_that_grows_with_them(tmp_path):
    trials = 64
    small = [f"heldout.areas.{area}.limit=4" for area in ("tables", "invoices")]
    sizes = ["data.limit=32", "resources.trials_per_lane=2", f"search.trials={trials}", "heldout.answers_at=[]", *small]
    points = ["training.checkpoints_at=[0.25,1.0]", "confirm.budget=0", "search.sampler=random"]
    log = (tmp_path / "log").open("w")
    arguments = ("conf/smoke.yaml", f"storage_path={tmp_path}", *sizes, *points)
    process = subprocess.Popen(command(*arguments), env=environment(), stdout=log, stderr=log)
    samples = []  # paused so far, live actors of Tune, resident MB of the driver, of the actors
    while process.poll() is None:
        paused = len(events(tmp_path / "smoke", "trial_paused"))  # ranking follows the last
        samples.append((paused, *live(psutil.Process(process.pid))))
        time.sleep(0.5)
    assert process.returncode == 0, (tmp_path / "log").read_text()
    (lanes,) = (event["lanes"] for event in events(tmp_path / "smoke", "sweep_started"))
    (slots,) = (event["slots"] for event in events(tmp_path / "smoke", "slots"))
    seen = np.array(samples)
    most = [[int(paused), *seen[seen[:, 0] == paused].max(axis=0)[1:].round()] for paused in np.unique(seen[:, 0])]
    print("paused; most actors; MB of the driver, of the actors:", *most)
    assert seen[:, 0].max() == trials - 1
    assert 1 <= seen[:, 1].max() <= lanes * slots
    first, last = (seen[(low <= seen[:, 0]) & (seen[:, 0] < high), 2].max() for low, high in ((1, 9), (55, trials - 1)))
    assert last - first < 20, "the driver keeps some kilobytes of a paused trial"


def live(driver):
    """Actors of Tune, resident megabytes of the driver and of these actors."""
    actors, megabytes = 0, 0.0
    for process in driver.children(recursive=True):
        try:
            if any("ray::SweepTrial" in word for word in process.cmdline()):
                actors, megabytes = actors + 1, megabytes + process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
    return actors, driver.memory_info().rss / 1e6, megabytes


def objective(point):
    return float(np.mean([area["nll"] for area in point["areas"].values()]))
