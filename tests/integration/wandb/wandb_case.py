"""Runs a script that tracks trials with the real W&B client, in a process of its own: the client is one a process."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.wandb.wandb_server import RecordedRun, WandbServer

REPO = Path(__file__).parents[3]
KEY = "0123456789" * 4

PRELUDE = """
import json, logging, os, sys, time
from types import SimpleNamespace
from trainables.config.sections import WandbConfig
from trainables.config.trial_spec import TrialSpec
from trainables.tracking.wandb_run import Tracker, close_service

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
clock = time.perf_counter
in_calls = 0.0

def tracker():
    return Tracker(WandbConfig(tags=["tag"]), "sweep", sys.argv[1], timeout_seconds=TIMEOUT)

def spec(trial="t0"):
    return TrialSpec(trial_id=trial, seed=7, params={"peak_lr": 1e-3})

def records(*steps):
    return [
        SimpleNamespace(step=s, loss=2.0 / s, lr=1e-3, grad_norm=0.5, clipped=s == 2, base_loss=2.5 if s > 1 else None)
        for s in steps
    ]

def call(method, *arguments):
    global in_calls
    started = clock()
    method(*arguments)
    in_calls += clock() - started

def head(t, trial="t0"):
    call(t.start, spec(trial), {"model": "m"}, None, "why")
    call(t.steps, records(1, 2))

def tail(t, state="complete"):
    call(t.steps, records(3))
    call(t.areas, 3, {"in_domain": {"nll": 1.0, "exact_match": None, "items": 60}}, {"in_domain": {"nll": 2.5}}, {"objective": 1.0, "heldout/loss": 1.0})
    call(t.finish, state, {"objective": 1.0})

def say(**facts):
    print(json.dumps(facts), flush=True)

def meet(number):
    say(reached=number)
    sys.stdin.readline()

def service_pids(zombies=True):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            name, rest = open(f"/proc/{entry}/stat").read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "wandb-core" and int(rest.split()[1]) == os.getpid() and (zombies or rest.split()[0] != "Z"):
            found.append(int(entry))
    return found
"""


class Case:
    """A process that tracks trials: `meet(n)` in its script waits for `go(n)` here."""

    def __init__(self, folder: Path, script: str, url: str | None, timeout_seconds: float) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        environment |= {"HOME": str(home), "PYTHONPATH": str(REPO), "NETRC": str(home / "netrc")}
        if url is not None:
            environment |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        text = PRELUDE + f"TIMEOUT = {timeout_seconds}\n" + textwrap.dedent(script)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, str(folder)],
            env=environment,
            cwd=folder.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.facts: dict[str, Any] = {}
        self.stderr = ""

    def reach(self, number: int) -> None:
        """Waits until the script is at `meet(number)`."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert json.loads(line or "{}") == {"reached": number}, self.process.communicate()[1]

    def go(self) -> None:
        """Lets the script go on from where it meets."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> "Case":
        """Waits for the process to end well, and collects what it said."""
        out, self.stderr = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self.stderr
        for line in out.splitlines():
            self.facts |= json.loads(line)
        return self

    @property
    def warnings(self) -> list[str]:
        """All that came on stderr, where nothing but the tracker's warnings may come."""
        return self.stderr.splitlines()


@contextmanager
def case(folder: Path, script: str, url: str | None = None, timeout_seconds: float = 10.0) -> Iterator[Case]:
    started = Case(folder, script, url, timeout_seconds)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


def sync(server: WandbServer, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(folder.parents[2]), "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(folder)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def assert_whole_trial(run: RecordedRun, state: str = "complete") -> None:
    """The server has all that `head` and `tail` told."""
    config = {name: entry["value"] for name, entry in run.config.items() if name != "_wandb"}
    assert config == {"model": "m", "peak_lr": 1e-3, "seed": 7, "kind": "search", "replicate_of": None}
    curve = [{key: row[key] for key in ("step", "train/loss", "train/clipped")} for row in run.rows("train/loss")]
    assert curve == [
        {"step": step, "train/loss": pytest.approx(2.0 / step), "train/clipped": int(step == 2)} for step in (1, 2, 3)
    ]
    relative = [(row["step"], row["train/loss_minus_base"]) for row in run.rows("train/loss_minus_base")]
    assert relative == [(step, pytest.approx(2.0 / step - 2.5)) for step in (2, 3)]
    (areas,) = run.rows("heldout/in_domain/nll")
    assert (areas["step"], areas["heldout/in_domain/nll"], areas["heldout/in_domain/gain"]) == (3, 1.0, 1.5)
    assert "heldout/in_domain/exact_match" not in areas
    assert run.summary["verdict"] == {"objective": 1.0, "state": state}
    assert run.summary["heldout/in_domain/items"] == 60
    axes = {metric.get("2"): metric.get("5") for metric in run.config["_wandb"]["value"]["m"]}
    assert {"train/*", "heldout/*"} <= set(axes)
