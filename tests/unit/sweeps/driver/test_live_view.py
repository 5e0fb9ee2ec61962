"""What a user reads while a sweep runs: rendered text."""

import io
import math
import re
from typing import Any

import pytest
from rich.console import Console

from analysis.output.end_screen import fitting
from sweeps.driver.budget import Budget
from sweeps.driver.live.view import Progress
from sweeps.phases.baseline import under_way
from trainables.config.trial_spec import TrialSpec

PARAMS = {"peak_lr": 1e-4, "warmup_fraction": 0.05, "decay_floor": 4e-5}


class Screen:
    """A progress view on a terminal (or a file), whose clock the test turns."""

    def __init__(self, terminal: bool, width: int = 160) -> None:
        self.now, self.text = 0.0, io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        console = Console(file=self.text, force_terminal=terminal, width=width, color_system=None)
        self.progress = Progress(console, Budget(1, None, clock=lambda: self.now), clock=lambda: self.now)
        self.progress.trials, self.progress.epochs = 2, 2.0
        for trial in ("t0", "t1"):
            self.progress.add(TrialSpec(trial_id=trial, seed=0, params=PARAMS))

    def printed(self) -> str:
        self.text.seek(0)
        return self.text.read()

    def show(self, *notices: dict[str, str], **jobs: dict[str, Any]) -> None:
        jobs = {trial: {"job_id": trial, **job} for trial, job in jobs.items()}
        self.progress.show({"jobs": jobs, "lanes": {}, "notices": list(notices)})

    def row(self, trial: str, job: dict[str, Any]) -> dict[str, str]:
        """What the live table shows of a trial, by column."""
        columns = self.progress._columns({trial: {"job_id": trial, **job}})
        return {ranked.column.header: ranked.column.cells[0] for ranked in columns}


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
    assert screen.row("t0", running(step, began))["left"] == eta


def test_a_second_attempt_is_timed_and_drawn_by_itself() -> None:
    screen = Screen(terminal=True)
    screen.show(t0=running(40))
    screen.now = 1000.0
    screen.show(t0=running(attempt=2))
    screen.now = 1010.0
    job = running(50, began=40, attempt=2)
    screen.show(t0=job)
    row = screen.row("t0", job)
    assert (row["state"], row["left"], row["curve"]) == ("training (try 2)", "0:50", "▁")


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
    assert screen.printed().splitlines() == [goes_on["text"], f"warning: {lost['text']}"]


def test_lines_where_there_is_no_terminal() -> None:
    screen = Screen(terminal=False)
    for step in (1, 2, 26, 27):
        screen.show(t0=running(step))
    lines = screen.printed().splitlines()
    told = "t0 training: peak_lr=0.0001 warmup_fraction=0.05 decay_floor=4e-05 step {} of 100 loss 2.0000"
    assert lines == [told.format(1), told.format(26)]


AREAS_AT = {"state": "running", "attempt": 1, "end": None, "step": 100, "steps": 100, "began_at_step": 0, "loss": 1.0}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_shows_fewer_columns_and_every_value_whole(width: int) -> None:
    screen = Screen(terminal=True, width=width)
    jobs = {name: {"job_id": name, **running(50), "objective": 3.325} for name in ("t0", "t1")}
    screen.show(**jobs)
    columns, left = fitting(screen.progress._columns(jobs), width)
    shown = {column.header: column.cells[0] for column in columns}
    assert sum(column.width + 2 for column in columns) - 2 <= width
    assert {
        "trial": "t0",
        "peak LR": "1.0e-4",
        "state": "training",
        "held-out\nloss": "3.3250",
    }.items() <= shown.items()
    assert ("floor" in left) == (width < 100)
    with screen.progress:
        screen.show(t0={**running(50), "objective": 3.325})
    lines = re.sub(r"\x1b\[\S*?[a-zA-Z]", "", screen.printed()).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_the_headline_counts_trials_and_time_and_names_the_best() -> None:
    screen = Screen(terminal=True)
    screen.now = 240.0
    done = {**AREAS_AT, "state": "ended", "end": {"state": "complete"}, "objective": 3.3}
    jobs = {"t0": {"job_id": "t0", **done}, "t1": {"job_id": "t1", **running(50)}}
    told = "1 of 2 trials finished · 4 min elapsed\nbest so far 3.3000 (t0 · 1.0e-4)"
    assert screen.progress._headline(jobs) == told
    screen.progress.base = 5.716
    assert screen.progress._headline(jobs) == f"{told} · base model 5.7160"


@pytest.mark.parametrize(
    ("losses", "seconds", "text"),
    [
        ({}, 12.0, "0 of 2 areas, 12 s"),
        ({"a": 7.921}, 20.0, "1 of 2 areas (a 7.92), 20 s, about 60 s left"),
        ({"a": 7.921, "b": 3.5}, 80.0, "2 of 2 areas (a 7.92, b 3.50), 80 s, about 0 s left"),
    ],
)
def test_each_area_of_the_base_model_is_told_as_soon_as_it_is_known(losses: Any, seconds: float, text: str) -> None:
    assert under_way(losses, {"a": 10, "b": 30}, seconds) == f"evaluating the base model: {text}"


def test_a_trial_at_a_checkpoint_is_evaluating_until_its_scores_come_and_the_second_is_forecast() -> None:
    screen = Screen(terminal=True)
    screen.show(t0=AREAS_AT)
    row = screen.row("t0", AREAS_AT)
    assert (row["state"], row["left"]) == ("evaluating", "")
    for doing, share, state in (("scoring", 0.25, "scoring 25 %"), ("answering", 0.5, "answering 50 %")):
        screen.show(t0={**AREAS_AT, "doing": doing, "share": share})
        assert screen.row("t0", {**AREAS_AT, "doing": doing, "share": share})["state"] == state
    screen.now = 40.0
    scored = {**AREAS_AT, "points": [{"step": 100, "objective": 3.3}]}
    screen.show(t0=scored)
    assert screen.row("t0", scored)["state"] == "training"
    screen.show(t1=AREAS_AT)
    screen.now = 50.0
    assert screen.row("t1", AREAS_AT)["left"] == "0:30"


def test_what_is_under_way_before_the_first_trial_is_said_once_a_minute_where_there_is_no_terminal() -> None:
    screen = Screen(terminal=False)
    for second in range(0, 130, 10):
        screen.now = float(second)
        screen.progress.note(f"evaluating the base model: {second}")
    assert screen.printed().split("\n")[:3] == [f"evaluating the base model: {second}" for second in (0, 60, 120)]
