"""Conductor: runs one sweep, carries out its kills, and restarts each driver that was killed."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from analysis.cli import WRONG_INPUT
from tests.chaos.acts import CHECKPOINTS, NODE, NODE_BACK, STEPS, SWEEP, Act
from tests.chaos.edits import EDITS, Edited, own_inputs
from tests.chaos.reader import Reader
from trainables.reliability.fault_injection import VARIABLE, Kill, marker

ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 0.02
ACT_SECONDS = 2400.0
TITLES = {"controller": "ray::TrainController", "dispatcher": "ray::DispatcherActor", "worker": "ray::RayTrainWorker"}
LATE, TRIES = "The current node timed out during startup", 3
TOO_BUSY = "error: Ray: must be up within its 30 s"  # what a driver makes of it
SUBREAPER = 36  # prctl's: orphans of a killed driver become children of this process, which can so find them


class ChaosError(Exception):
    """The sweep failed while its processes were killed."""


@dataclass
class Conductor:
    """One act.

    Attributes:
        act: The sweep and its kills.
        place: Folder for all files.
        starts: Drivers started so far.
        late_starts: Of these, how often Ray itself did not come up within its 30 seconds.
        left: Processes that outlived the sweep, by title.
        mixed: Edits that were accepted, or refused for another cause.
    """

    act: Act
    place: Path
    starts: int = 0
    late_starts: int = 0
    left: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    _driver: subprocess.Popen[bytes] | None = None
    _cluster: Any = None
    _second: Any = None

    def __post_init__(self) -> None:
        self._edits, self._reader = list(self.act.edits), Reader(self.act.readers)

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.place / SWEEP

    @property
    def plan(self) -> Path:
        """The file of kills."""
        return self.place / "kills" / "plan.jsonl"

    def run(self) -> None:
        """Run the sweep to its end; raises `ChaosError` for a driver that fails unkilled, or takes too long."""
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        self.plan.parent.mkdir(parents=True)
        self.plan.write_text("".join(json.dumps(kill._asdict()) + "\n" for kill in self.act.kills))
        scratch = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")  # short: Ray's sockets lie in it
        os.environ.update({VARIABLE: str(self.plan), "RAY_TMPDIR": scratch, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"})
        tempfile.tempdir = None
        try:
            if self.act.nodes:
                self._start_cluster()
            self._play(time.monotonic() + ACT_SECONDS)
        finally:
            self._end(scratch)

    def _play(self, deadline: float) -> None:
        while True:
            code = self._attend(self._start(), deadline)
            if code == 0:
                return
            if code == WRONG_INPUT and TOO_BUSY in self._log().read_text():
                self.late_starts += 1
            elif code != -signal.SIGKILL:
                raise ChaosError(f"the driver ended with exit code {code}:\n{self._log().read_text()[-3000:]}")

    def _start(self) -> subprocess.Popen[bytes]:
        # At once: processes of the last driver may still be alive.
        self.starts += 1
        begun = (self.folder / "plan.json").exists()
        what = ["--resume", self.folder] if begun else ["conf/smoke.yaml", *self._overrides()]
        address = ["--address", self._cluster.address] if self._cluster else []
        command = [sys.executable, "-m", "sweeps.run", *map(str, what), *address]
        if begun:
            self._refused(command)
        with self._log().open("wb") as log, self._reader.pipe(self.starts) as stdout:
            self._driver = subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=stdout or log, stderr=log)
        return self._driver

    def _refused(self, command: list[str]) -> None:
        """Tries the start with an edit that no resume may accept."""
        if not self._edits:
            return
        name = self._edits.pop(0)
        with Edited(EDITS[name], self.place) as edit:
            done = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False)
        if done.returncode != WRONG_INPUT or f"error: {edit.named}: " not in done.stderr:
            self.mixed.append(f"{name} was edited, and the exit code is {done.returncode}: {done.stderr[-300:]}")

    def _overrides(self) -> list[str]:
        return [
            f"name={SWEEP}", f"storage_path={self.place}", f"data.limit={4 * STEPS}",
            f"training.checkpoints_at={[step / STEPS for step in CHECKPOINTS]}",
            f"search.trials={self.act.trials}", "search.trial_scheduler=none", "search.sampler=random",
            "confirm.budget=0", "resources.cpus_per_worker=1", "resources.max_failures=99",
            f"wandb.mode={self.act.wandb}",
            f"resources.keep_checkpoints={self.act.keep}", f"resources.trials_per_lane={self.act.slots}",
            *([f"resources.lanes={self.act.lanes}"] if self.act.nodes < 2 else []),
            *(own_inputs(self.place) if self.act.edits else []),
        ]  # fmt: skip

    def _attend(self, driver: subprocess.Popen[bytes], deadline: float) -> int:
        while (code := driver.poll()) is None:
            self._reader.read()
            self._look()
            if time.monotonic() > deadline:
                raise ChaosError(f"the sweep does not end:\n{self._log().read_text()[-3000:]}")
            time.sleep(LOOK_SECONDS)
        return code

    def _look(self) -> None:
        for kill in self.act.kills:
            if marker(self.plan, kill, "wanted").exists() and not marker(self.plan, kill, "done").exists():
                self._carry_out(kill)
                marker(self.plan, kill, "done").touch()

    def _carry_out(self, kill: Kill) -> None:
        if kill.target == "driver":
            assert self._driver
            self._driver.kill()
        elif kill.target == NODE:
            self._add_second()
            self._cluster.remove_node(self._second, allow_graceful=False)
            self._second = None
        elif kill.target == NODE_BACK:
            self._add_second()
        elif kill.target in TITLES:
            self._newest(TITLES[kill.target]).kill()

    def _newest(self, title: str) -> psutil.Process:
        found = [p for p in self._descendants() if " ".join(_cmdline(p)).startswith(title)]
        if not found:
            raise ChaosError(f"there is no {title} to kill")
        return max(found, key=lambda process: process.create_time())

    def _start_cluster(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=False)
        self._add_node(cpus=self.act.lanes, include_dashboard=True, dashboard_port=0)
        if self.act.nodes > 1:
            self._add_second()

    def _add_second(self) -> None:
        self._second = self._second or self._add_node()

    def _add_node(self, cpus: int = 1, **options: Any) -> Any:
        for tries_left in reversed(range(TRIES)):
            try:
                node = self._cluster.add_node(num_cpus=cpus, wait=False, **options)
                self._cluster._wait_for_node(node, 180)
                return node
            except Exception as error:
                # On a busy machine Ray may not come up within its 30 seconds.
                if LATE not in str(error) or not tries_left:
                    raise
        raise AssertionError

    def _log(self) -> Path:
        return self.place / f"driver-{self.starts}.log"

    def _descendants(self) -> list[psutil.Process]:
        return psutil.Process().children(recursive=True)

    def _end(self, scratch: str) -> None:
        if self._driver and self._driver.poll() is None:
            self._driver.kill()
        if self._cluster:
            self._cluster.shutdown()
        _, alive = psutil.wait_procs(self._descendants(), timeout=20)
        self.left = [" ".join(_cmdline(process))[:80] for process in alive]
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=10)
        os.environ.pop(VARIABLE)
        shutil.rmtree(scratch, ignore_errors=True)

    def missed(self) -> list[Kill | str]:
        """Kills whose place was not reached, and edits that no start tried."""
        return [*self._edits, *(kill for kill in self.act.kills if not marker(self.plan, kill, "claimed").exists())]

    def strikes(self) -> list[Kill]:
        """Kills that ended a process."""
        missed = self.missed()
        return [kill for kill in self.act.kills if kill not in missed and kill.target != NODE_BACK]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended
        return []
