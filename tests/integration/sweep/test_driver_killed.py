"""The driver is killed without a word; the sweep goes on from its ledger, and nothing is lost or done twice."""

import json
import signal
import subprocess
import time
from collections import Counter

import optuna
import pytest

from sweeps.ledger.ledger import Ledger
from sweeps.search.study import open_storage
from tests.integration.conftest import command, environment, run_sweep

pytestmark = pytest.mark.slow


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(ready, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it took too long"
        assert process.poll() is None, "the sweep ended before"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A sweep whose driver was killed in its second trial, while another driver tried the same folder."""
    storage = tmp_path_factory.mktemp("killed")
    arguments = ("conf/smoke.yaml", f"storage_path={storage}", "data.limit=400", "search.trials=3")
    process = subprocess.Popen(
        command(*arguments), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = storage / "smoke"
    try:
        wait_for(lambda: (folder / "ledger.jsonl").exists(), process)
        second = run_sweep("--resume", folder)
        curve = folder / "trials" / "t0002" / "curve.jsonl"
        wait_for(lambda: curve.exists() and curve.stat().st_size > 0, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return folder, process.pid, second


def test_a_second_driver_is_refused_in_one_line(killed):
    folder, pid, second = killed
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: {folder}: must have one driver at a time, got process {pid} on ")
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.timeout(400)
def test_no_trial_is_lost_and_none_done_twice(killed):
    folder, _, _ = killed
    before = [event["trial"] for event in Ledger(folder).read()[0] if event["event"] == "trial_ended"]
    assert [trial["trial_id"] for trial in before] == ["t0001"]
    (folder / "trials.jsonl").unlink()  # as if it had been killed between the ledger's line and this file's
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"event":"trial_ended","trial":{"trial_id":"t0002","sta')

    done = run_sweep("--resume", folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "was cut off: it does not count" in done.stdout
    trials = lines(folder / "trials.jsonl")
    assert trials[0] == before[0]
    assert [(trial["trial_id"], trial["state"]) for trial in trials] == [
        ("t0001", "complete"), ("t0002", "complete"), ("t0003", "complete"),
    ]  # fmt: skip
    for trial in trials:
        curve = lines(folder / "trials" / trial["trial_id"] / "curve.jsonl")
        assert [step["step"] for step in curve] == list(range(1, 101))
        seen = Counter(sample for step in curve for sample in step["ids"])
        assert set(seen.values()) == {1}
        assert len(seen) == 400

    events, _ = Ledger(folder).read()
    assert Counter(event["driver_epoch"] for event in events if event["event"] == "sweep_started") == {1: 1, 2: 1}
    assert sorted(event["trial"]["trial_id"] for event in events if event["event"] == "trial_ended") == [
        "t0001", "t0002", "t0003",
    ]  # fmt: skip
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    assert [(trial.user_attrs["trial_id"], trial.state.name) for trial in study.trials] == [
        ("t0001", "COMPLETE"), ("t0002", "COMPLETE"), ("t0003", "COMPLETE"),
    ]  # fmt: skip
