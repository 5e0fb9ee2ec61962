"""The live table of a sweep in the terminal; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from analysis.output.board_figures import STATES
from analysis.output.end_screen import Ranked, duration, fitting
from analysis.output.formats import labeled, rate, share
from analysis.output.leaderboard_table import Column, encodable, table_of
from analysis.output.terminal_plots import sparkline
from sweeps.driver.budget import SECONDS_PER_HOUR, Budget, trials_done
from sweeps.driver.live.evaluations import Evaluations
from trainables.config.trial_spec import TrialSpec
from trainables.evaluation.objective import Measure
from trainables.lane.trial_parts import by_trial, has_ended

SHOWN_TRIALS = 20
LINE_EVERY_FRACTION = 0.25
NOTE_EVERY_SECONDS = 60.0  # where the output is no terminal
SPARK_CELLS = 12  # characters of a trial's loss curve, at most

Status = Mapping[str, Any]


class Progress:
    """Shows the dispatcher's status: a live table on a terminal, else a line for each change.

    Args:
        console: Where to print.
        budget: Forecasts the sweep's cost.
        clock: Monotonic time in seconds.
        measure: The metric that decides; None for the loss.
        checkpoints_at: Fractions of the epoch after which a trial is evaluated.

    Attributes:
        trials: Trials to train in this start of the sweep.
        epochs: Epochs to train in this start: less than `trials` where some pause and don't go on.
        done: Those that were trained so far.
        base: The base model's objective; None before it is known.
    """

    def __init__(
        self,
        console: Console,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        measure: Measure | None = None,
        checkpoints_at: Sequence[float] = (1.0,),
    ) -> None:
        self._clock = clock
        self.console, self.budget = console, budget
        self.measure = measure or Measure()
        self.trials, self.epochs, self.done = 0, 0.0, 0.0
        self.base: float | None = None
        self.forecast_shown = False
        self.specs: dict[str, TrialSpec] = {}
        self.began = self._clock()
        self.started: dict[tuple[str, int], float] = {}
        self.evaluations = Evaluations(checkpoints_at, clock)
        self.losses: defaultdict[tuple[str, int], dict[int, float]] = defaultdict(dict)
        self.notices = 0
        self.noted = -NOTE_EVERY_SECONDS
        self.shown: dict[str, tuple[str, int]] = {}
        self.live = Live(console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def add(self, spec: TrialSpec) -> None:
        self.specs[spec.trial_id] = spec

    def note(self, text: str) -> None:
        """Says what is under way before the first trial: one line that is updated in place, or a line a minute."""
        if self.live:
            self.live.update(Text(text))
        elif self._clock() - self.noted >= NOTE_EVERY_SECONDS:
            self.noted = self._clock()
            self.console.print(text, soft_wrap=True, highlight=False)

    def show(self, status: Status) -> None:
        """Redraws the table, or prints a line for each trial whose state or quarter of the epoch has changed."""
        for notice in status["notices"][self.notices :]:
            text = f"warning: {notice['text']}" if notice["level"] == "warning" else notice["text"]
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        self.notices = len(status["notices"])
        jobs = {trial_id: job for trial_id, job in by_trial(status["jobs"]).items() if trial_id in self.specs}
        for job_id, job in jobs.items():
            self._follow(job_id, job)
        self.done = trials_done(jobs)
        if self.live:
            if self.trials:  # none while the base model is scored
                columns, _ = fitting(self._columns(jobs), self.console.width)
                lines = [Text(encodable(self._headline(jobs), self.console), style="bold")]
                self.live.update(Group(*lines, table_of(self.console, columns, [""] * self._rows(jobs))))
            return
        self._lines(jobs)
        if (left := self._time_left()) and not self.forecast_shown:
            self.forecast_shown = True
            self.console.print(f"forecast from the first steps: {left}{self._cost()}", soft_wrap=True, highlight=False)

    def _follow(self, trial_id: str, job: Status) -> None:
        # By attempt: a trial that is tried again starts its clock and its curve again. By job too: the time in which a
        # trial was paused does not count.
        now = self._clock()
        if job["state"] == "running":
            self.started.setdefault((job["job_id"], job["attempt"]), now)
        if "loss" in job:
            self.losses[trial_id, job["attempt"]][job["step"]] = job["loss"]
        self.evaluations.follow(trial_id, job)

    def _headline(self, jobs: Mapping[str, Status]) -> str:
        """Progress in trials and time; below, the best so far and the base model."""
        finished = sum(has_ended(job) for job in jobs.values())
        parts = [f"{finished} of {self.trials} trials finished", f"{duration(self._clock() - self.began)} elapsed"]
        if left := self._time_left():
            parts.append(left + self._cost())
        found = []
        scores = {name: job["objective"] for name, job in jobs.items() if job.get("objective") is not None}
        if scores:
            best = min(scores, key=lambda name: scores[name])
            found.append(f"best so far {self._score(scores[best])} ({labeled(best, self.specs[best].params)})")
        if self.base is not None:
            found.append(f"base model {self._score(self.base)}")
        return "\n".join(" · ".join(line) for line in (parts, found) if line)

    def _time_left(self) -> str:
        forecast = self.budget.forecast_hours(self.done, self.epochs)
        if forecast is None:
            return ""
        left = max(0.0, forecast - self.budget.spent_hours()) / max(1, self.budget.devices)
        return f"about {duration(SECONDS_PER_HOUR * left)} left"

    def _cost(self) -> str:
        cap = self.budget.cap_hours
        return "" if cap is None else f" ({self.budget.spent_hours():.2f} of {cap:g} device-hours)"

    def _rows(self, jobs: Mapping[str, Status]) -> int:
        return min(len(jobs), SHOWN_TRIALS)

    def _columns(self, jobs: Mapping[str, Status]) -> list[Ranked]:
        """The table's columns; a narrow terminal shows fewer of them, never a part of a value."""
        rows = [self._cells(job_id, jobs[job_id]) for job_id in list(jobs)[-SHOWN_TRIALS:]]
        label = "held-out\nloss" if not self.measure.higher_is_better else self.measure.label.replace(" ", "\n")
        heads = (
            *(("trial", 0), ("peak LR", 0), ("state", 0), ("step", 1), ("left", 2), ("training\nloss", 3)),
            *(("curve", 4), (label, 0), ("warm-up", 5), ("floor", 6)),
        )
        words = ("trial", "state", "curve")
        return [
            Ranked(Column(head, [row[place] for row in rows], words=head in words), dispensable, head)
            for place, (head, dispensable) in enumerate(heads)
        ]

    def _cells(self, job_id: str, job: Status) -> list[str]:
        params = self.specs[job_id].params
        step = f"{job['step']} of {job['steps']}" if "step" in job else ""
        return [
            job_id,
            rate(float(params["peak_lr"])),
            self._state(job),
            step,
            self._left(job_id, job),
            number(job.get("loss")),
            self._curve(job_id, job),
            "" if job.get("objective") is None else self._score(job["objective"]),
            f"{100 * float(params['warmup_fraction']):.1f} %",
            rate(float(params["decay_floor"])),
        ]

    def _state(self, job: Status) -> str:
        return state_words(job, self.evaluations.words(job) or "training")

    def _score(self, objective: float) -> str:
        value = self.measure.turned(objective)
        return share(value) if self.measure.higher_is_better else number(value)

    def _left(self, trial_id: str, job: Status) -> str:
        if job["state"] != "running":
            return ""
        if self.evaluations.words(job):
            left = self.evaluations.seconds_left(trial_id, job)
            return "" if left is None else clock(left)
        if job.get("step", 0) <= job.get("began_at_step", 0):
            return ""
        # At the attempt's mean speed, scoring included. A resumed attempt counts from the step at which it began.
        spent = self._clock() - self.started[job["job_id"], job["attempt"]]
        return clock(spent / (job["step"] - job["began_at_step"]) * (job["steps"] - job["step"]))

    def _curve(self, job_id: str, job: Status) -> str:
        losses = list(self.losses[job_id, job["attempt"]].values())
        parts = np.array_split(losses, min(SPARK_CELLS, len(losses))) if losses else []
        return sparkline([float(part.mean()) for part in parts])

    def _lines(self, jobs: Mapping[str, Status]) -> None:
        for job_id, job in jobs.items():
            part = int(job["step"] / job["steps"] / LINE_EVERY_FRACTION) if "step" in job else 0
            state = self._state(job)
            if self.shown.get(job_id) == (state, part):
                continue
            self.shown[job_id] = (state, part)
            params = " ".join(f"{name}={_short(value)}" for name, value in self.specs[job_id].params.items())
            step = f" step {job['step']} of {job['steps']}" if "step" in job else ""
            loss = f" loss {number(job['loss'])}" if "loss" in job else ""
            known = job.get("objective")
            held = "" if known is None else f" {self.measure.label} {self._score(known)}"
            self.console.print(f"{job_id} {state}: {params}{step}{loss}{held}", soft_wrap=True, highlight=False)


def state_words(job: Status, running: str = "training") -> str:
    """How a trial ended, or what it does."""
    state = job["end"]["state"] if job["end"] else job["state"]
    state = running if state == "running" else STATES.get(state, state)
    return state if job["attempt"] == 1 else f"{state} (try {job['attempt']})"


def clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
