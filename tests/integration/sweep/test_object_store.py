"""A sweep in an object store: killed, gone on with by a machine that has nothing of it, ranked and exported by URL."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import ROOT, command, environment, run_sweep
from tests.object_store_helpers import BUCKET, KEYS, endpoint
from trainables.storage.object_store import Remote
from trainables.storage.working_copy import join_ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The environment of a machine that may use the store."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("machine")
    settings = {**KEYS, "AWS_ENDPOINT_URL": endpoint(), "XDG_CACHE_HOME": str(folder / "first")}
    for name, value in settings.items():
        patch.setenv(name, value)
    yield folder
    patch.undo()


def lines(data):
    return [json.loads(line) for line in data.splitlines()]


def wait_for(ready, process, seconds=400):
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it took too long"
        assert process.poll() is None, "the sweep ended before"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def resumed(store):
    """A sweep that was killed in its second trial, after a checkpoint, and what the resumed one printed."""
    arguments = ("conf/smoke.yaml", f"storage_path=s3://{BUCKET}/whole", "search.trials=3", "data.limit=400")
    remote = Remote(f"s3://{BUCKET}/whole/smoke")
    log = (store / "log").open("w")
    process = subprocess.Popen(command(*arguments), cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        wait_for(lambda: remote.listed("ledger"), process)
        second = run_sweep("--resume", remote.url)
        wait_for(lambda: any(key.endswith("COMPLETE") for key in remote.listed("trials/t0002/state")), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = dict.fromkeys(key for key in remote.listed() if key.startswith("ledger/"))
    shutil.rmtree(store / "first")
    done = run_sweep("--resume", remote.url, XDG_CACHE_HOME=str(store / "second"))
    assert done.returncode == 0, done.stderr + done.stdout
    return remote, second, before, done


def events_of(remote, folder):
    join_ledger(remote, folder / "ledger.jsonl")
    assert Ledger(folder).faults() == []
    return Ledger(folder).read()[0]


def test_a_second_driver_is_refused_in_one_line(resumed):
    _, second, _, _ = resumed
    assert second.returncode == 2
    assert "must have one driver at a time, got process" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_no_trial_is_lost_and_none_done_twice(resumed, tmp_path):
    remote, _, before, _ = resumed
    assert before.keys() <= remote.listed().keys(), "no event was replaced"
    events = events_of(remote, tmp_path)
    ended = [event["trial"] for event in events if event["event"] == "trial_ended"]
    searched = [trial for trial in ended if trial["kind"] == "search"]
    assert Counter(trial["trial_id"] for trial in searched) == {"t0001": 1, "t0002": 1, "t0003": 1}
    assert [event["driver_epoch"] for event in events if event["event"] == "sweep_started"] == [1, 2]
    assert lines(remote.get("trials.jsonl")) == ended
    assert {trial["state"] for trial in searched} <= {"complete", "pruned"}


def test_the_trial_that_was_cut_short_went_on_and_saw_every_sample_once(resumed, tmp_path):
    remote, _, _, _ = resumed
    (trial,) = [
        event["trial"]
        for event in events_of(remote, tmp_path)
        if event["event"] == "trial_ended" and event["trial"]["trial_id"] == "t0002"
    ]
    assert trial["went_on_from_step"] == 50, "the checkpoint in the middle of its epoch"
    curve = lines(remote.get("trials/t0002/curve.jsonl"))
    assert [row["step"] for row in curve] == list(range(1, trial["steps"] + 1))
    ids = [name for row in curve for name in row["ids"]]
    assert len(ids) == len(set(ids)) == trial["samples_seen"]
    assert remote.listed("trials/t0002/state") == {}, "a trial that has ended keeps no state"


def test_what_a_reader_needs_lies_in_the_store(resumed):
    remote, _, _, done = resumed
    there = remote.listed()
    for name in ("sweep.yaml", "manifest.json", "plan.json", "baseline.json", "leaderboard.json", "report.html"):
        assert name in there
    assert "study.log" in there
    assert json.loads(remote.get("manifest.json"))["state"] == "complete"
    assert f"Results: {remote.url}" in done.stdout
    assert not any("partial" in key or key.startswith(".") for key in there)


def run(module, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_it_is_ranked_and_exported_by_its_url(resumed, store, tmp_path):
    remote, _, _, _ = resumed
    third = {"XDG_CACHE_HOME": str(store / "third")}
    ranked = run("analysis.rank", remote.url, "--json", **third)
    assert ranked.returncode == 0, ranked.stderr
    assert json.loads(ranked.stdout)["winner"] == json.loads(remote.get("leaderboard.json"))["winner"]
    exported = run("analysis.export", remote.url, "--to", tmp_path / "best", **third)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "best" / "adapter_model.safetensors").is_file()
    assert "verified: reloaded with transformers, logits " in exported.stdout
    for module, rest in (("analysis.show", ["t0001"]), ("analysis.suspects", []), ("sweeps.rebuild", [])):
        done = run(module, remote.url, *rest, **third)
        assert done.returncode == 0, done.stderr
