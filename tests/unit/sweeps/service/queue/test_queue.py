"""Killed at any line of the queue's log, or at any moment, the service loses no sweep and runs none twice."""

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sweeps.run import parse
from sweeps.service.queue.entries import ENDED, PAUSED, QUEUED, RUNNING
from sweeps.service.queue.queue import SERVICE_FOLDER, ConflictError, Queue
from sweeps.service.runs.attempts import Seen
from sweeps.service.runs.processes import Processes, sweeps_run
from sweeps.service.runs.runner import Runner
from trainables.errors import UserError
from trainables.reliability import fault_injection
from trainables.reliability.fault_injection import Kill

FAKE = Path(__file__).with_name("fake_sweep.py")
PATIENCE_SECONDS = 60.0
fork = multiprocessing.get_context("fork")


def fake_run(arguments):
    return [sys.executable, "-S", "-E", str(FAKE), *arguments]


def opened(storage):
    folder = storage / SERVICE_FOLDER
    (folder / "sent").mkdir(parents=True, exist_ok=True)
    queue = Queue(folder)
    return queue, Runner(queue, storage, Processes(folder, fake_run))


def send(queue, storage, name, objective="complete", user="ada", priority=0):
    key = f"{name}-1"
    config = f"name: {name}\nobjective: {objective}\nstorage_path: {storage}\n"
    (queue.folder / "sent" / f"{key}.yaml").write_text(config)
    return queue.record("submitted", name, user=user, client_id=name, key=key, priority=priority)


def work(queue, runner, until=lambda entries: all(entry.state in (ENDED, PAUSED) for entry in entries)):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until(queue.entries.values()):
        assert time.monotonic() < deadline, queue.entries
        runner.step()
        time.sleep(0.01)


def runs(storage):
    path = storage / "runs.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def service(tmp_path):
    return opened(tmp_path)


def test_sweeps_run_one_after_another_and_end_as_they_say(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "first")
    send(queue, tmp_path, "second", "refused")
    send(queue, tmp_path, "third", "dies")
    send(queue, tmp_path, "urgent", priority=1)
    work(queue, runner)
    assert [line.split()[0] for line in runs(tmp_path)] == ["urgent", "first", "second", "third"]
    outcomes = {name: entry.outcome for name, entry in queue.entries.items()}
    assert outcomes == {"first": "complete", "second": "refused", "third": "killed", "urgent": "complete"}
    refused = "error: space.peak_lr: low must be below high, got 2; swap them"
    assert queue.get("SECOND").error == refused
    assert queue.get("first").device_seconds == 36
    assert opened(tmp_path)[0].entries == {name: replace(entry, ended=pytest.approx(entry.ended, abs=1))
                                           for name, entry in queue.entries.items()}  # fmt: skip


def test_sweeps_run_on_the_cluster_that_the_service_was_given():
    options = parse(sweeps_run(["--resume", "outputs/x"], address="auto")[3:])
    assert (options.resume, options.address) == ("outputs/x", "auto")
    assert parse(sweeps_run(["c.yaml", "--plan"])[3:]).address is None


def is_running(queue, name):
    # The fake has its handler once its folder is there.
    return queue.get(name).state == RUNNING and (queue.folder.parent / name / "manifest.json").exists()


@pytest.mark.parametrize(("ask", "state", "outcome"), [("stop", ENDED, "stopped"), ("pause", PAUSED, "")])
def test_a_running_sweep_stops_or_pauses_and_goes_on_when_resumed(service, tmp_path, ask, state, outcome):
    queue, runner = service
    send(queue, tmp_path, "one", "slow")
    work(queue, runner, until=lambda _: is_running(queue, "one"))
    getattr(queue, ask)("one")
    work(queue, runner)
    assert (queue.get("one").state, queue.get("one").outcome) == (state, outcome)
    queue.resume("one")
    work(queue, runner)
    assert queue.get("one").outcome == "complete"
    assert runs(tmp_path) == ["one began", "one resumed"]
    with pytest.raises(ConflictError, match="must be unfinished, got complete"):
        queue.resume("one")


def test_a_queued_sweep_is_held_back_or_withdrawn_and_never_begins(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "held")
    send(queue, tmp_path, "gone")
    assert queue.pause("held").state == PAUSED
    assert queue.stop("gone").outcome == "stopped"
    work(queue, runner)
    assert runs(tmp_path) == []
    with pytest.raises(ConflictError, match="must be queued or running, got ended stopped"):
        queue.pause("gone")
    queue.resume("held")
    work(queue, runner)
    assert runs(tmp_path) == ["held began"]


def test_a_name_that_another_sweep_took_meanwhile_is_refused_and_that_sweep_stays(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.yaml").write_text("name: mine\nobjective: another\n")
    work(queue, runner)
    assert (queue.get("mine").outcome, runs(tmp_path)) == ("refused", [])
    assert "must not exist yet" in queue.get("mine").error


def test_a_sweep_that_outlives_the_service_is_found_again_and_can_be_stopped(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "long", "slow")
    work(queue, runner, until=lambda _: is_running(queue, "long"))
    again, later = opened(tmp_path)
    for _ in range(3):
        later.step()
    assert (again.get("long").state, runs(tmp_path)) == (RUNNING, ["long began"])
    again.stop("long")
    work(again, later, until=lambda _: (runner._attempts.own["long-1-1"].poll(), again.get("long").state == ENDED)[1])
    assert (again.get("long").outcome, runs(tmp_path)) == ("stopped", ["long began"])


def test_the_exit_code_of_an_earlier_attempt_is_not_taken_for_that_of_the_present_one(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "one")
    runner.step()
    attempts, first = runner._attempts, queue.get("one")
    while (seen := attempts.look([first])["one"]).lives:
        time.sleep(0.01)
    assert seen.code == 0
    # The service was killed before the second attempt began.
    assert attempts.look([replace(first, attempt=2)])["one"] == Seen(lives=False, code=None)
    assert attempts.own == {}


def test_a_sweep_that_died_with_its_machine_is_continued(service, tmp_path):
    queue, runner = service
    send(queue, tmp_path, "one", "slow")
    work(queue, runner, until=lambda _: is_running(queue, "one"))
    os.kill(runner._attempts.own["one-1-1"].pid, signal.SIGKILL)
    runner._attempts.own["one-1-1"].wait()
    again, later = opened(tmp_path)
    work(again, later)
    assert (again.get("one").outcome, runs(tmp_path)) == ("complete", ["one began", "one resumed"])


def test_requests_are_answered_while_the_place_of_a_sweep_is_asked(service, tmp_path, monkeypatch):
    queue, runner = service
    answered = []

    def among_requests(name):
        asked = getattr(runner._attempts, name)

        def slow(entry):
            request = threading.Thread(target=lambda: answered.append((name, queue.sent_as("ada", "one").name)))
            request.start()
            request.join(PATIENCE_SECONDS / 10)
            return asked(entry)

        monkeypatch.setattr(runner._attempts, name, slow)

    among_requests("tell_to_stop")
    among_requests("errors")
    send(queue, tmp_path, "one", "slow")
    work(queue, runner, until=lambda _: is_running(queue, "one"))
    queue.stop("one")
    record = queue.record
    monkeypatch.setattr(queue, "record", lambda kind, name, **more: (answered.append(kind), record(kind, name, **more)))
    work(queue, runner)
    assert answered == [("tell_to_stop", "one"), "signalled", ("errors", "one"), "ended"]


def test_the_queue_outlives_a_full_disk_and_a_damaged_users_file(service, tmp_path, monkeypatch, capsys):
    queue, runner = service
    send(queue, tmp_path, "one")
    faults = [OSError(28, "No space left on device"), UserError("users.yaml", "must be YAML", "x", "mend the file")]
    monkeypatch.setattr(runner, "_parts", lambda: (_ for _ in ()).throw(faults.pop()) if faults else {})
    monkeypatch.setattr(runner._attempts, "look_every_seconds", 0.01)
    thread = threading.Thread(target=runner.run)
    thread.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while queue.get("one").state != ENDED and time.monotonic() < deadline:
        time.sleep(0.01)
    runner.end()
    thread.join()
    assert queue.get("one").outcome == "complete"
    assert capsys.readouterr().err.count("error: the queue waits: ") == 2


SENT = {"a": "complete", "b": "slow", "c": "refused", "d": "complete"}
EVENTS = ("submitted", "paused", "starting", "asked", "signalled", "ended", "queued")  # in the order of first writing
STAGES = ("ledger_due", "line_torn", "ledger_written")


def serve(storage, kill=None):
    """One life of a service: sends what is not sent yet, works through the queue, stops, pauses and resumes."""
    if kill:
        fault_injection._plan_path, fault_injection._plan = storage / "kills.jsonl", [kill]
    queue, runner = opened(storage)
    for name, objective in SENT.items():
        if not queue.sent_as("ada", name):
            send(queue, storage, name, objective)
    if queue.get("d").state == QUEUED and not (storage / "d paused").exists():
        queue.pause("d")
    (storage / "d paused").touch()

    def ended(entries):
        if is_running(queue, "b") and not queue.get("b").asked:
            queue.stop("b")
        return all(entry.state in (ENDED, PAUSED) for entry in entries)

    work(queue, runner, ended)
    if queue.get("d").state == PAUSED:
        queue.resume("d")
    work(queue, runner)


def lives(storage, *kills):
    """Runs services, each killed as planned, and a last one that is not; the number of those that were killed."""
    killed = 0
    for kill in (*kills, None):
        process = fork.Process(target=serve, args=(storage, kill))
        process.start()
        process.join(PATIENCE_SECONDS)
        killed += process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL)
    return killed


@pytest.mark.parametrize("stage", STAGES)
def test_kills_at_every_kind_of_line_of_the_log_lose_nothing_and_run_nothing_twice(tmp_path, stage):
    kills = [Kill(event, fault_injection.OWN, stage, event) for event in EVENTS]
    assert lives(tmp_path, *kills) == len(EVENTS)
    queue, _ = opened(tmp_path)
    outcomes = {name: entry.outcome for name, entry in queue.entries.items()}
    assert outcomes == {"a": "complete", "b": "stopped", "c": "refused", "d": "complete"}
    # A refused sweep leaves nothing by which a later service could know it: it may be refused again.
    counts = Counter(line for line in runs(tmp_path) if not line.startswith("c "))
    assert counts == {"a began": 1, "b began": 1, "d began": 1}


def load(storage, names):
    queue, runner = opened(storage)
    for name in names:
        if not queue.sent_as("ada", name):
            send(queue, storage, name)
    work(queue, runner)


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_random_moments_of_a_load(tmp_path, seed):
    rng, names = random.Random(seed), [f"s{k}" for k in range(10)]
    for _ in range(5):
        process = fork.Process(target=load, args=(tmp_path, names))
        process.start()
        process.join(rng.uniform(0.02, 0.8))
        process.kill()
        process.join()
    load(tmp_path, names)
    assert {entry.outcome for entry in opened(tmp_path)[0].entries.values()} == {"complete"}
    assert sorted(runs(tmp_path)) == sorted(f"{name} began" for name in names)


def test_a_resumed_attempt_has_the_id_of_its_sweep_in_the_log(tmp_path):
    queue, runner = opened(tmp_path)
    entry = send(queue, tmp_path, "one")
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "sweep.yaml").write_bytes(queue.config(entry).read_bytes())
    (folder / "manifest.json").write_text('{"sweep_id": "abc", "state": "interrupted"}')
    runner._start(entry)
    assert Queue(queue.folder).get("one").sweep_id == "abc"
