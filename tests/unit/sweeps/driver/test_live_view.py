"""What a user reads while a sweep runs: rendered text."""

import io
import math
from typing import Any

import pytest
from rich.console import Console

from sweeps.driver.budget import Budget
from sweeps.driver.live_view import Progress
from trainables.config.trial_spec import TrialSpec

PARAMS = {"peak_lr": 1e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}


class Screen:
    """A progress view on a terminal (or a file), whose clock the test turns."""

    def __init__(self, terminal: bool) -> None:
        self.now, self.text = 0.0, io.StringIO()
        console = Console(file=self.text, force_terminal=terminal, width=160, color_system=None)
        self.progress = Progress(console, Budget(1, None, clock=lambda: self.now), clock=lambda: self.now)
        self.progress.trials, self.progress.epochs = 2, 2.0
        for trial in ("t0", "t1"):
            self.progress.add(TrialSpec(trial_id=trial, seed=0, params=PARAMS))

    def show(self, *notices: dict[str, str], **jobs: dict[str, Any]) -> None:
        jobs = {trial: {"job_id": trial, **job} for trial, job in jobs.items()}
        self.progress.show({"jobs": jobs, "lanes": {}, "notices": list(notices)})

    def row(self, trial: str, job: dict[str, Any]) -> dict[str, str]:
        """What the live table shows of a trial, by column."""
        table = self.progress._table({trial: {"job_id": trial, **job}}, "")
        return {str(column.header): str(next(iter(column.cells))) for column in table.columns}


def running(step: int | None = None, began: int = 0, loss: float = 2.0, attempt: int = 1) -> dict[str, Any]:
    job: dict[str, Any] = {"state": "running", "attempt": attempt, "end": None}
    return job if step is None else {**job, "step": step, "steps": 100, "began_at_step": began, "loss": loss}


@pytest.mark.parametrize(
    ("began", "step", "seconds", "eta"),
    [
        (0, 10, 20.0, "3:00"),  # 2 s a step, 90 to go
        (0, 50, 100.0, "1:40"),
        (50, 60, 20.0, "1:20"),  # went on from step 50: 10 steps took 20 s, 40 to go
        (90, 95, 600.0, "10:00"),
        (50, 50, 20.0, ""),  # nothing done yet that tells the speed
    ],
)
def test_time_left_counts_from_where_this_attempt_began(began: int, step: int, seconds: float, eta: str) -> None:
    screen = Screen(terminal=True)
    screen.show(t0=running())
    screen.now = seconds
    screen.show(t0=running(step, began))
    assert screen.row("t0", running(step, began))["ETA"] == eta


def test_a_second_attempt_is_timed_and_drawn_by_itself() -> None:
    screen = Screen(terminal=True)
    screen.show(t0=running(40))
    screen.now = 1000.0
    screen.show(t0=running(attempt=2))
    screen.now = 1010.0
    job = running(50, began=40, attempt=2)
    screen.show(t0=job)
    row = screen.row("t0", job)
    assert (row["state"], row["ETA"], row["curve"]) == ("running (try 2)", "0:50", "▁")


def test_the_curve_falls_as_the_loss_does_and_shows_a_loss_that_is_not_finite() -> None:
    screen = Screen(terminal=True)
    for step, loss in enumerate([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], start=1):
        screen.show(t0=running(step, loss=loss))
        screen.show(t0=running(step, loss=loss))  # looked at more often than it changes
    assert screen.row("t0", running(8))["curve"] == "█▇▆▅▄▃▂▁"
    for step in range(9, 97):
        screen.show(t0=running(step, loss=0.5))
    curve = screen.row("t0", running(96))["curve"]
    assert (len(curve), curve[0], curve[-1]) == (12, "█", "▁")
    screen = Screen(terminal=True)
    for step, loss in ((1, 2.0), (2, 1.0), (3, math.nan)):
        screen.show(t0=running(step, loss=loss))
    assert screen.row("t0", running(3))["curve"] == "█▁×"


def test_going_on_is_information_and_a_lost_worker_a_warning() -> None:
    screen = Screen(terminal=False)
    goes_on = {"level": "info", "text": "t0 goes on from step 50 of 100"}
    lost = {"level": "warning", "text": "lane-0 ended: OutOfMemoryError: [16 GiB]"}
    screen.show(goes_on)
    screen.show(goes_on, lost)
    screen.show(goes_on, lost)
    assert screen.text.getvalue().splitlines() == [goes_on["text"], f"warning: {lost['text']}"]


def test_lines_where_there_is_no_terminal() -> None:
    screen = Screen(terminal=False)
    for step in (1, 2, 26, 27):
        screen.show(t0=running(step))
    lines = screen.text.getvalue().splitlines()
    told = "t0 running: peak_lr=0.0001 warmup_fraction=0.05 decay_floor=4e-05 step {} of 100 loss 2.0000"
    assert lines == [told.format(1), told.format(26)]
