"""Replays a sweep over recorded trials in a given order, with a rule that stops trials."""

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


@dataclass(frozen=True)
class Sweep:
    """What a replayed sweep came to; the trials in the order in which they were started."""

    executed: tuple[int, ...]  # steps that each trial was trained
    stopped: tuple[bool, ...]  # whether the rule stopped it
    chosen: float  # the lowest objective of a complete trial; infinite without any


def replay(trials: Sequence[Recorded], lanes: int, rule: Rule) -> Sweep:
    """Trains the trials in their order, `lanes` at a time, all at the same speed.

    Between two reports every lane trains one part of the epoch. Then complete trials count as finished, the rule is
    asked of the others, and free lanes take the next trials.
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
