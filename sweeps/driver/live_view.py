"""The live table of a sweep in the terminal; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from analysis.output.terminal_plots import sparkline
from sweeps.driver.budget import Budget, trials_done
from trainables.config.trial_spec import TrialSpec
from trainables.lane.trial_parts import by_trial, has_ended

SHOWN_TRIALS = 20
LINE_EVERY_FRACTION = 0.25
SPARK_CELLS = 12  # characters of a trial's loss curve, at most

Status = Mapping[str, Any]


class Progress:
    """Shows the dispatcher's status: a live table on a terminal, else a line for each change.

    Args:
        console: Where to print.
        budget: Forecasts the sweep's cost.
        clock: Monotonic time in seconds.

    Attributes:
        trials: Trials to train in this start of the sweep.
        epochs: Epochs to train in this start: less than `trials` where some pause and don't go on.
        done: Those that were trained so far.
    """

    def __init__(self, console: Console, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.console, self.budget = console, budget
        self.trials, self.epochs, self.done = 0, 0.0, 0.0
        self.forecast_shown = False
        self.specs: dict[str, TrialSpec] = {}
        self.started: dict[tuple[str, int], float] = {}
        self.losses: defaultdict[tuple[str, int], dict[int, float]] = defaultdict(dict)
        self.notices = 0
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

    def show(self, status: Status) -> None:
        """Redraws the table, or prints a line for each trial whose state or quarter of the epoch has changed."""
        for notice in status["notices"][self.notices :]:
            text = f"warning: {notice['text']}" if notice["level"] == "warning" else notice["text"]
            self.console.print(text, soft_wrap=True, highlight=False, markup=False)
        self.notices = len(status["notices"])
        jobs = {trial_id: job for trial_id, job in by_trial(status["jobs"]).items() if trial_id in self.specs}
        for job_id, job in jobs.items():
            self._follow(job_id, job)
        cost = self._cost(jobs)
        if self.live:
            if self.trials:  # none while the base model is scored
                self.live.update(self._table(jobs, cost))
            return
        self._lines(jobs)
        if cost and not self.forecast_shown:
            self.forecast_shown = True
            self.console.print(f"forecast: {cost}, measured on the first steps", soft_wrap=True, highlight=False)

    def _follow(self, trial_id: str, job: Status) -> None:
        # By attempt: a trial that is tried again starts its clock and its curve again. By job too: the time in which a
        # trial was paused does not count.
        if job["state"] == "running":
            self.started.setdefault((job["job_id"], job["attempt"]), self._clock())
        if "loss" in job:
            self.losses[trial_id, job["attempt"]][job["step"]] = job["loss"]

    def _cost(self, jobs: Mapping[str, Status]) -> str:
        self.done = trials_done(jobs)
        forecast = self.budget.forecast_hours(self.done, self.epochs)
        if forecast is None:
            return ""
        cap = "" if self.budget.cap_hours is None else f" (cap {self.budget.cap_hours:g})"
        return f"{self.budget.spent_hours():.2f} of about {forecast:.2f} device-hours{cap}"

    def _table(self, jobs: Mapping[str, Status], cost: str) -> Table:
        done = sum(has_ended(job) for job in jobs.values())
        title = f"{done} of {self.trials} trials ended" + (f", {cost}" if cost else "")
        table = Table(title=title, title_justify="left", expand=False)
        for name in ("trial", "state", "peak LR", "warm-up", "floor", "step", "ETA", "loss", "curve", "held-out NLL"):
            table.add_column(name, justify="left" if name in ("trial", "state", "curve") else "right", no_wrap=True)
        for job_id in list(jobs)[-SHOWN_TRIALS:]:
            table.add_row(*self._cells(job_id, jobs[job_id]))
        return table

    def _cells(self, job_id: str, job: Status) -> list[str]:
        params = self.specs[job_id].params
        step = f"{job['step']} of {job['steps']}" if "step" in job else ""
        return [
            job_id,
            state_words(job),
            f"{params['peak_lr']:.2e}",
            f"{params['warmup_fraction']:.3f}",
            f"{params['decay_floor']:.2e}",
            step,
            self._eta(job),
            number(job.get("loss")),
            self._curve(job_id, job),
            number(job.get("objective")),
        ]

    def _eta(self, job: Status) -> str:
        # At the attempt's mean speed, scoring included. A resumed attempt counts from the step at which it began.
        if job["state"] != "running" or job.get("step", 0) <= job.get("began_at_step", 0):
            return ""
        spent = self._clock() - self.started[job["job_id"], job["attempt"]]
        left = spent / (job["step"] - job["began_at_step"]) * (job["steps"] - job["step"])
        return f"{int(left // 60)}:{int(left % 60):02d}"

    def _curve(self, job_id: str, job: Status) -> str:
        losses = list(self.losses[job_id, job["attempt"]].values())
        parts = np.array_split(losses, min(SPARK_CELLS, len(losses))) if losses else []
        return sparkline([float(part.mean()) for part in parts])

    def _lines(self, jobs: Mapping[str, Status]) -> None:
        for job_id, job in jobs.items():
            part = int(job["step"] / job["steps"] / LINE_EVERY_FRACTION) if "step" in job else 0
            state = state_words(job)
            if self.shown.get(job_id) == (state, part):
                continue
            self.shown[job_id] = (state, part)
            params = " ".join(f"{name}={_short(value)}" for name, value in self.specs[job_id].params.items())
            step = f" step {job['step']} of {job['steps']}" if "step" in job else ""
            loss = f" loss {number(job['loss'])}" if "loss" in job else ""
            held = f" held-out NLL {number(job['objective'])}" if "objective" in job else ""
            self.console.print(f"{job_id} {state}: {params}{step}{loss}{held}", soft_wrap=True, highlight=False)


def state_words(job: Status) -> str:
    state = job["end"]["state"] if job["end"] else job["state"]
    return state if job["attempt"] == 1 else f"{state} (try {job['attempt']})"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
