"""Replays a sweep over recorded trials in a given order, with a rule that stops trials."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.diagnostics.recorded import read, samples_of
from benchmarks.recording.curves import PARAMS, Curves
from sweeps.config import pausing
from sweeps.pruning.trial_curve import TrialCurve, read_curve
from sweeps.search.going_on import choose
from trainables.data.epoch import checkpoint_steps, report_points
from trainables.diagnostics import Finding

# What is known of a trial at a report, of those that are complete and of the others that run; says whether it is
# stopped.
Rule = Callable[[TrialCurve, Sequence[TrialCurve], Sequence[TrialCurve]], bool]


@dataclass(frozen=True)
class Recorded:
    """A recorded trial, report by report."""

    # the trial as it is known at each report, as far as its training loop would have trained it
    stages: tuple[TrialCurve, ...]
    steps: tuple[int, ...]  # optimizer steps done at each of those reports
    steps_planned: int  # steps of its epoch
    diverged: bool  # whether the loop ended it: its loss was not finite, diverged or was worse than its base model's
    params: dict[str, float]  # its setting
    row: int  # its place in the recording

    @property
    def objective(self) -> float:
        """Objective of the last checkpoint; infinite for a diverged trial."""
        final = self.stages[-1].objective
        return float("inf") if final is None else final

    @property
    def pause(self) -> int:
        """Reports until it pauses; beyond its last one if it ended before."""
        (step,) = checkpoint_steps([pausing.PAUSE_AT], self.steps_planned)
        return bisect.bisect_left(self.steps, step) + 1

    @property
    def score_at_pause(self) -> float:
        """Held-out objective where it pauses, nats a token."""
        stage = self.stages[self.pause - 1]
        return stage.heldout[stage.seen]

    def under(self, seed: int) -> Recorded:
        """The same trial as if it had been trained under a seed: it is compared with trials of that seed only."""
        return replace(self, stages=tuple(replace(stage, seed=seed) for stage in self.stages))


@dataclass(frozen=True)
class Sweep:
    """What a replayed sweep came to; the trials in the order in which they were started."""

    executed: tuple[int, ...]  # steps that each trial was trained
    stopped: tuple[bool, ...]  # whether the rule stopped it
    chosen: float  # the lowest objective of a complete trial; infinite without any
    # Time until the last trial ended, in intervals between two reports
    intervals: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Part:
    """A part of a trial that is trained without a pause."""

    trial: int  # its place in the order
    begins: int  # reports before it
    ends: int  # reports at its end


def replay(trials: Sequence[Recorded], lanes: int, rule: Rule, pauses: bool = False) -> Sweep:
    """Trains the trials in their order, `lanes` at a time, all at the same speed.

    Between two reports every lane trains one part of the epoch. Then complete trials count as finished, the rule is
    asked of the others, and free lanes take the next trials.

    Args:
        trials: In the order in which they start.
        lanes: Trials at once.
        rule: Who stops trials.
        pauses: Whether all but the first pause and the best go on once all have come so far (`sweeps.config.pausing`).
    """
    course, number = _Course(trials, lanes, rule), len(trials)
    ends = [
        min(trial.pause, len(trial.stages)) if pauses and pausing.pauses(place + 1, number) else len(trial.stages)
        for place, trial in enumerate(trials)
    ]
    course.train([Part(place, 0, end) for place, end in enumerate(ends)])
    paused = [
        place
        for place, trial in enumerate(trials)
        if ends[place] < len(trial.stages) and not course.stopped[place]
    ]  # fmt: skip
    if paused:
        scores = {f"{place:04d}": trials[place].score_at_pause for place in paused}
        settings = {f"{place:04d}": trials[place].params for place in paused}
        peak_lrs = {trial.stages[-1].trial_id: trial.params["peak_lr"] for trial in trials}
        finished_lrs = [peak_lrs[trial.trial_id] for trial in course.finished]
        going_on = [int(name) for name in choose(scores, settings, finished_lrs, number)]
        course.train([Part(place, ends[place], len(trials[place].stages)) for place in going_on])
    finals = [trial.objective for trial in course.finished if trial.objective is not None]
    return Sweep(tuple(course.executed), tuple(course.stopped), min(finals, default=math.inf), course.intervals)


class _Course:
    """A sweep so far."""

    def __init__(self, trials: Sequence[Recorded], lanes: int, rule: Rule) -> None:
        self.trials, self.lanes, self.rule = trials, lanes, rule
        self.finished: list[TrialCurve] = []
        self.executed, self.stopped = [0] * len(trials), [False] * len(trials)
        self.intervals = 0

    def train(self, parts: Sequence[Part]) -> None:
        """Trains parts in their order until all have ended."""
        waiting, running = iter(parts), dict[Part, int]()  # reports so far
        while True:
            running |= {part: part.begins for part in itertools.islice(waiting, self.lanes - len(running))}
            if not running:
                return
            running = {part: reports + 1 for part, reports in running.items()}
            self.intervals += 1
            now = {part.trial: self.trials[part.trial].stages[reports - 1] for part, reports in running.items()}
            ended = {part for part, reports in running.items() if reports == part.ends}
            whole = sorted(part.trial for part in ended if part.ends == len(self.trials[part.trial].stages))
            self.finished += [now[trial] for trial in whole if not self.trials[trial].diverged]
            going = [part.trial for part in running if part not in ended]
            for trial in going:
                siblings = [now[other] for other in going if other != trial]
                self.stopped[trial] = self.rule(now[trial], self.finished, siblings)
            for part in [part for part in running if part in ended or self.stopped[part.trial]]:
                self.executed[part.trial] = self.trials[part.trial].steps[running.pop(part) - 1]


def recorded_trials(curves: Curves, chosen: np.ndarray) -> list[Recorded]:
    return [recorded_trial(curves, row) for row in np.flatnonzero(chosen).tolist()]


def recorded_trial(curves: Curves, row: int) -> Recorded:
    """A trial, read by the diagnostics as in training.

    Raises:
        ValueError: It ended early, and today's diagnostics would not have ended it.
    """
    schedule, samples = curves.schedule(row), samples_of(curves, row)
    base_level = float(curves.base_item_nll[curves.sets.index(str(curves.data[row]))].mean())
    findings = read(samples, schedule, base_level)
    checkpoints = checkpoint_steps(curves.points.tolist(), schedule.steps)
    reports = sorted(report_points(schedule.steps) | frozenset(checkpoints))
    errors = [finding["step"] for finding in findings if finding["severity"] == "error"]
    last = next((at for at in reports if errors and at >= errors[0]), schedule.steps)
    if not errors and (str(curves.state[row]) != "complete" or not np.all(np.isfinite(samples.nll))):
        raise ValueError(f"trial {row}: it did not come to its end, and no diagnostic says why")
    points = dict(zip(checkpoints, curves.objective[row].tolist(), strict=True))
    lines = [{"step": step + 1, "item_nll": samples.nll[samples.step(step)].tolist()} for step in range(last)]
    whole = read_curve(
        str(row), int(curves.seed[row]), schedule, len(samples.nll), samples.batch, lines,
        heldout={step: value for step, value in points.items() if step <= last},
        objective=None if errors else points[schedule.steps],
    )  # fmt: skip
    done = [at for at in reports if at <= last]
    stages = [_until(whole, at * samples.batch, [f for f in findings if f["step"] <= at], at == last) for at in done]
    params = dict(zip(PARAMS, curves.params[row].tolist(), strict=True))
    return Recorded(tuple(stages), tuple(done), schedule.steps, bool(errors), params, row)


def _until(whole: TrialCurve, seen: int, findings: Sequence[Finding], is_last: bool) -> TrialCurve:
    """The trial as known after `seen` samples."""
    heldout = {at: value for at, value in whole.heldout.items() if at <= seen}
    objective = whole.objective if is_last else None
    return replace(whole, nll=whole.nll[:seen], heldout=heldout, objective=objective, findings=tuple(findings))
