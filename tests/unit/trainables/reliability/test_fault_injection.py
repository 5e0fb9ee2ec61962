"""Kills at named places, each in a process of its own."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from trainables.reliability.fault_injection import OWN, VARIABLE, Kill, marker, read_plan

TALE = """
import pathlib
from trainables.reliability import fault_injection
for step in (1, 2, 3):
    fault_injection.reached("steps_written", "t0001", step)
    print(step, flush=True)
fault_injection.reached_appending("append_done", pathlib.Path("t0001", "curve.jsonl"), b'{"step":4}\\n{"step":5}\\n')
fault_injection.reached_writing("line_torn", "trial_ended t0001", pathlib.Path("line"), b"0123456789")
pathlib.Path("line").write_bytes(b"0123456789")
"""


def plan_of(folder, *kills):
    path = folder / "plan.jsonl"
    path.write_text("".join(json.dumps(kill._asdict()) + "\n" for kill in kills))
    assert read_plan(path) == list(kills)
    return path


def tell(folder, plan):
    named = {VARIABLE: str(plan)} if plan else {}
    environment = {**os.environ, **named, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", TALE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.split()


def test_without_a_plan_nothing_happens(tmp_path):
    assert tell(tmp_path, None) == (0, ["1", "2", "3"])


@pytest.mark.parametrize(
    ("kill", "told"),
    [
        (Kill("k1", OWN, "steps_written", "t0001", 2), ["1"]),
        (Kill("k1", OWN, "steps_written", "t0001"), []),
        (Kill("k1", OWN, "steps_written", "t0002", 2), None),
        (Kill("k1", OWN, "steps_due", "t0001", 2), None),
        (Kill("k1", OWN, "append_done", "t0001/curve.jsonl", 5), ["1", "2", "3"]),
        (Kill("k1", OWN, "append_done", "t0001/curve.jsonl", 4), None),
    ],
)
def test_a_kill_strikes_at_its_event_alone_and_once(tmp_path, kill, told):
    plan = plan_of(tmp_path, kill)
    assert tell(tmp_path, plan) == ((0, ["1", "2", "3"]) if told is None else (-9, told))
    assert tell(tmp_path, plan) == (0, ["1", "2", "3"])


def test_a_torn_write_leaves_half(tmp_path):
    plan = plan_of(tmp_path, Kill("k1", OWN, "line_torn", "trial_ended t0001"))
    assert tell(tmp_path, plan)[0] == -9
    assert (tmp_path / "line").read_bytes() == b"01234"
    assert tell(tmp_path, plan)[0] == 0
    assert (tmp_path / "line").read_bytes() == b"0123456789"


def test_a_kill_of_another_is_asked_for_and_waited_for(tmp_path):
    kill = Kill("k1", "controller", "steps_written", "t0001", 2)
    plan = plan_of(tmp_path, kill)
    told = []
    thread = threading.Thread(target=lambda: told.append(tell(tmp_path, plan)))
    thread.start()
    while not marker(plan, kill, "wanted").exists():
        time.sleep(0.01)
    assert not told
    marker(plan, kill, "done").touch()
    thread.join()
    assert told == [(0, ["1", "2", "3"])]
