"""A sweep over recorded trials, in a given order, with a rule that stops some of them: what it trained and chose."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.diagnostics.recorded import read, samples_of
from benchmarks.recording.curves import PARAMS, Curves
from sweeps.pruning.trial_curve import TrialCurve, read_curve
from trainables.data.epoch import checkpoint_steps, report_points
from trainables.diagnostics import Finding

Rule = Callable[[TrialCurve, Sequence[TrialCurve], Sequence[TrialCurve]], bool]
"""What is known of a trial at a report, of those that are complete and of the others that run; says whether it is
stopped."""


@dataclass(frozen=True)
class Recorded:
    """A recorded trial, report by report.

    Attributes:
        stages: The trial as it is known at each report, as far as its training loop would have trained it.
        steps: Optimizer steps done at each of those reports.
        steps_planned: Steps of its epoch.
        diverged: Whether the loop ended it: its loss was not finite, diverged or was worse than its base model's.
        params: Its setting.
        row: Its place in the recording.
    """

    stages: tuple[TrialCurve, ...]
    steps: tuple[int, ...]
    steps_planned: int
    diverged: bool
    params: dict[str, float]
    row: int

    @property
    def objective(self) -> float:
        """Of the last checkpoint; infinite for a trial that diverged."""
        final = self.stages[-1].objective
        return float("inf") if final is None else final


@dataclass(frozen=True)
class Sweep:
    """What a replayed sweep came to; the trials in the order in which they were started.

    Attributes:
        executed: Steps that each trial was trained.
        stopped: Whether the rule stopped it.
        chosen: The lowest objective of a complete trial; infinite without any.
    """

    executed: tuple[int, ...]
    stopped: tuple[bool, ...]
    chosen: float


def replay(trials: Sequence[Recorded], lanes: int, rule: Rule) -> Sweep:
    """Trains the trials in their order, `lanes` at a time, all at the same speed.

    Between two reports every lane trains its trial on by one part of the epoch; then complete trials count as finished,
    the rule is asked of the others, and lanes that have become free take the next trials.
    """
    waiting = iter(range(len(trials)))
    running: dict[int, int] = {}  # reports so far, by trial
    finished: list[TrialCurve] = []
    executed, stopped = [0] * len(trials), [False] * len(trials)
    while True:
        running |= dict.fromkeys(itertools.islice(waiting, lanes - len(running)), 0)
        if not running:
            break
        running = {number: reports + 1 for number, reports in running.items()}
        now = {number: trials[number].stages[reports - 1] for number, reports in running.items()}
        ended = {number for number, reports in running.items() if reports == len(trials[number].stages)}
        finished += [now[number] for number in sorted(ended) if not trials[number].diverged]
        going = [number for number in running if number not in ended]
        for number in going:
            stopped[number] = rule(now[number], finished, [now[other] for other in going if other != number])
        for number in [number for number in running if number in ended or stopped[number]]:
            executed[number] = trials[number].steps[running.pop(number) - 1]
    finals = [trial.objective for trial in finished if trial.objective is not None]
    return Sweep(tuple(executed), tuple(stopped), min(finals, default=float("inf")))


def recorded_trials(curves: Curves, chosen: np.ndarray) -> list[Recorded]:
    """Some trials of a recording (a mask), each read as its loop would have read it."""
    return [recorded_trial(curves, row) for row in np.flatnonzero(chosen).tolist()]


def recorded_trial(curves: Curves, row: int) -> Recorded:
    """One trial, read by the diagnostics as if it were being trained now.

    Raises:
        ValueError: It ended before its time, and today's diagnostics would not have ended it.
    """
    schedule, samples = curves.schedule(row), samples_of(curves, row)
    base_level = float(curves.base_item_nll[curves.sets.index(str(curves.data[row]))].mean())
    findings = read(samples, schedule, base_level)
    reports = sorted(
        report_points(schedule.steps) | frozenset(checkpoint_steps(curves.points.tolist(), schedule.steps))
    )
    errors = [finding["step"] for finding in findings if finding["severity"] == "error"]
    last = next((at for at in reports if errors and at >= errors[0]), schedule.steps)
    if not errors and (str(curves.state[row]) != "complete" or not np.all(np.isfinite(samples.nll))):
        raise ValueError(f"trial {row}: it did not come to its end, and no diagnostic says why")
    points = dict(
        zip(checkpoint_steps(curves.points.tolist(), schedule.steps), curves.objective[row].tolist(), strict=True)
    )
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
    """The trial as it is known after so many samples."""
    heldout = {at: value for at, value in whole.heldout.items() if at <= seen}
    objective = whole.objective if is_last else None
    return replace(whole, nll=whole.nll[:seen], heldout=heldout, objective=objective, findings=tuple(findings))
