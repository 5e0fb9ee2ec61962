"""Named points at which a test can have a process killed; without a plan they do nothing.

`tests/chaos` writes its kills to a plan and names that file in the environment. A process of the sweep that reaches a
planned point claims the kill. It then dies as by `kill -9`, or asks the test to kill another process and waits until
that is done. A trace records every point that was reached.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

VARIABLE = "LLM_SWEEPS_KILLS"  # environment variable with the path of the plan, a file of `Kill`s as JSON lines
OWN = "own"  # as a target: the process that reaches the stage
WAIT_SECONDS = 60.0


class Kill(NamedTuple):
    """One planned kill.

    Attributes:
        name: Unique in the plan; marker files are named after it.
        target: The process to kill: `OWN`, or a word that the test understands.
        stage: Name of the point.
        of: Subject of the point: the last parts of a path, or an event or report with the trial's id.
        step: Optimizer steps done; None for any.
    """

    name: str
    target: str
    stage: str
    of: str
    step: int | None = None

    def is_due(self, stage: str, of: str, step: int) -> bool:
        """Whether this point is the planned one."""
        return (self.stage, self.of) == (stage, of) and self.step in (None, step)


def read_plan(path: Path) -> list[Kill]:
    """Read the kills of a plan."""
    return [Kill(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


# Read at import: without a plan a point costs a call and a comparison.
_plan_path = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
_plan = read_plan(_plan_path) if _plan_path else []


def reached(stage: str, of: str, step: int = 0) -> None:
    """Mark a point; does not return if this process is to die here."""
    if _plan_path:
        line = json.dumps([round(time.monotonic(), 3), os.getpid(), stage, of, step])
        with trace_of(_plan_path).open("a", encoding="utf-8") as trace:
            trace.write(line + "\n")
        for kill in _plan:
            if kill.is_due(stage, of, step) and _claim(_plan_path, kill):
                _carry_out(_plan_path, kill)


def reached_appending(stage: str, path: Path, content: bytes) -> None:
    """Mark a point of an append to a file, at the step that the last line of `content` names, else at 0."""
    if _plan_path:
        last = content.splitlines()[-1] if content else b""
        step = json.loads(last).get("step", 0) if last.startswith(b"{") else 0
        reached(stage, "/".join(path.parts[-2:]), step)


def reached_writing(stage: str, of: str, path: Path, content: bytes) -> None:
    """Mark the point before an append; a process that is to die here leaves the first half of `content`.

    Args:
        stage: Name of the point.
        of: Its subject.
        path: The file.
        content: The bytes that are about to be appended.
    """
    if _plan_path:
        for kill in _plan:
            if kill.is_due(stage, of, 0) and _claim(_plan_path, kill):
                with path.open("ab", buffering=0) as file:
                    file.write(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)


def marker(plan: Path, kill: Kill, what: str) -> Path:
    """The file that marks a kill as "claimed", as "wanted" of the test, or as "done" by it."""
    return plan.with_name(f"{kill.name}.{what}")


def trace_of(plan: Path) -> Path:
    """The file with a JSON line `[seconds, pid, stage, of, step]` for each point that was reached."""
    return plan.with_suffix(".trace")


def _claim(plan: Path, kill: Kill) -> bool:
    # Creating the file is atomic: of several processes, and of several times that one passes, one gets the kill.
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
