"""Faults of trials and of the storage, met by a real sweep: hangs, failures alike, a full disk, a read-only one."""

import contextlib
import json
import subprocess
import time

import pytest

from tests.integration.conftest import ROOT, command, environment, run_sweep

SCORER = """
import os, pathlib, time

def score(answer, item):
    if answer != item.response:  # not the audit's look at the references
        FAULT
    return 1.0
"""

HANGS_ONCE = """
        flag = pathlib.Path(__file__).with_name("hung")
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return 0.0
        time.sleep(600)
"""

ALWAYS_FAILS = 'raise RuntimeError(f"no room for {time.time()} items in /tmp/{os.getpid()}/x")'


def faulty_sweep(place, fault, *overrides):
    (place / "faulty_scorer.py").write_text(SCORER.replace("FAULT", fault.strip()))
    return run_sweep(
        "conf/smoke.yaml", f"storage_path={place}", "heldout.answers_at=[last]",
        "heldout.areas.tables.scorers=['faulty_scorer:score']", *overrides, PYTHONPATH=str(place),
    )  # fmt: skip


def trials(place):
    return [json.loads(line) for line in (place / "smoke" / "trials.jsonl").read_text().splitlines()]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a file system can't be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_its_trial_tried_again(tmp_path):
    done = faulty_sweep(tmp_path, HANGS_ONCE, "search.trials=1", "resources.hung_after_seconds=20")
    assert done.returncode == 0, done.stderr + done.stdout
    (trial,) = trials(tmp_path)
    assert (trial["state"], trial["attempts"], trial["went_on_from_step"]) == ("complete", 2, 8)


@pytest.mark.slow
def test_the_stacks_of_a_hang_are_in_the_error(tmp_path):
    done = faulty_sweep(
        tmp_path, HANGS_ONCE, "search.trials=1", "resources.hung_after_seconds=20", "resources.max_failures=0"
    )
    assert done.returncode == 3, done.stderr + done.stdout
    (trial,) = trials(tmp_path)
    assert trial["state"] == "failed"
    assert "faulty_scorer.py" in trial["error"]
    assert trial["error"].splitlines()[-1].startswith("hung: no step, scoring batch or write got done for 2")


@pytest.mark.slow
def test_three_trials_that_fail_alike_end_the_sweep_with_their_cause(tmp_path):
    done = faulty_sweep(tmp_path, ALWAYS_FAILS, "search.trials=8", "resources.max_failures=0")
    assert done.returncode == 3, done.stderr + done.stdout
    cause = "faulty_scorer:score: must score every answer, got RuntimeError: no room for "
    assert f"error: 3 trials in a row failed alike: {cause}" in done.stderr
    assert "continue it: python -m sweeps.run --resume" in done.stdout
    failed = [trial for trial in trials(tmp_path) if trial["state"] == "failed"]
    assert 3 <= len(failed) <= 4
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_full_disk_ends_the_sweep_in_one_line_and_loses_nothing(small_disk, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command("conf/smoke.yaml", f"storage_path={small_disk}", "search.trials=1", "data.limit=400"),
            cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    filler, folder = small_disk / "filler", small_disk / "smoke"
    curve, deadline = folder / "trials" / "t0001" / "curve.jsonl", time.monotonic() + 240
    while not (curve.exists() and curve.stat().st_size):
        assert time.monotonic() < deadline, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert process.wait(timeout=240) == 3, log.read_text()
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {folder}")
    assert "must be writable, got No space left on device; free space, then continue: " in line
    assert line.endswith(f"python -m sweeps.run --resume {folder}")
    assert "Traceback" not in log.read_text()
    filler.unlink()
    done = run_sweep("--resume", str(folder))
    assert done.returncode == 0, done.stderr + done.stdout
    (trial,) = trials(small_disk)
    assert trial["state"] == "complete"
    steps = [json.loads(line)["step"] for line in curve.read_text().splitlines()]
    assert steps == list(range(1, 101))


def test_storage_that_is_read_only_is_one_line(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_sweep("conf/smoke.yaml", f"storage_path={small_disk}")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: storage_path: must be a writable folder, got {small_disk}: Read-only file system; name another\n"
    )
