"""Named moments at which a test may have a process killed; without a plan, nothing.

`tests/chaos` kills what a sweep consists of at logical events (this stage, of this trial, at this step), so that a run
can be repeated. It writes the kills that it wants to a file and names that file in the environment; every process of
the sweep that reaches a planned event claims it, and either dies on the spot, as if by `kill -9`, or asks for another
process to be killed and waits until that is done. Beside the plan a trace is kept of all that was reached. Where no
plan is named a stage costs a call and a comparison.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

VARIABLE = "LLM_SWEEPS_KILLS"
"""Environment variable that names the plan, a file of `Kill`s as JSON lines."""

OWN = "own"
"""As a target: whoever reaches the stage."""

WAIT_SECONDS = 60.0


class Kill(NamedTuple):
    """One planned kill.

    Attributes:
        name: Of the kill, unique in its plan; files named after it tell how far it got.
        target: Who dies: `OWN`, or a word that the test understands.
        stage: Where.
        of: What is being done there: a trial's id, a file's or a folder's last parts.
        step: Optimizer steps done; None for any.
    """

    name: str
    target: str
    stage: str
    of: str
    step: int | None = None

    def is_due(self, stage: str, of: str, step: int) -> bool:
        """Whether this is the moment."""
        return (self.stage, self.of) == (stage, of) and self.step in (None, step)


def read_plan(path: Path) -> list[Kill]:
    """The kills of a plan."""
    return [Kill(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


_plan_path = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
_plan = read_plan(_plan_path) if _plan_path else []


def reached(stage: str, of: str, step: int = 0) -> None:
    """Says that this process is at a stage; does not return if it is to die here."""
    if _plan_path:
        _trace(_plan_path, stage, of, step)
        for kill in _plan:
            if kill.is_due(stage, of, step) and _claim(_plan_path, kill):
                _carry_out(_plan_path, kill)


def reached_writing(stage: str, of: str, path: Path, content: bytes) -> None:
    """Before `content` is appended to a file: who is to die here leaves the first half of it there.

    Args:
        stage: The stage's name.
        of: What is there, such as a trial's id.
        path: The file.
        content: What is about to be appended.
    """
    if _plan_path:
        for kill in _plan:
            if kill.is_due(stage, of, 0) and _claim(_plan_path, kill):
                with path.open("ab", buffering=0) as file:
                    file.write(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)


def reached_appending(stage: str, path: Path, content: bytes) -> None:
    """Reach a stage of an append to a file: the step is the one that the last appended line names, else 0."""
    if _plan_path:
        last = content.splitlines()[-1] if content else b""
        # Ledger lines and the study's journal name no step.
        step = json.loads(last).get("step", 0) if last.startswith(b"{") else 0
        reached(stage, "/".join(path.parts[-2:]), step)


def marker(plan: Path, kill: Kill, what: str) -> Path:
    """The file that says of a kill that it was "claimed", is "wanted" of the test, or is "done" by it."""
    return plan.with_name(f"{kill.name}.{what}")


def trace_of(plan: Path) -> Path:
    """The file with a line `seconds, pid, stage, of, step` for each stage that was reached, as JSON."""
    return plan.with_suffix(".trace")


def _trace(plan: Path, stage: str, of: str, step: int) -> None:
    with trace_of(plan).open("a", encoding="utf-8") as trace:
        trace.write(json.dumps([round(time.monotonic(), 3), os.getpid(), stage, of, step]) + "\n")


def _claim(plan: Path, kill: Kill) -> bool:
    """Takes a kill; of several processes that reach its event, and of several times, one gets it."""
    try:
        marker(plan, kill, "claimed").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _carry_out(plan: Path, kill: Kill) -> None:
    if kill.target == OWN:
        os.kill(os.getpid(), signal.SIGKILL)
    marker(plan, kill, "wanted").touch()
    deadline = time.monotonic() + WAIT_SECONDS
    while not marker(plan, kill, "done").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
