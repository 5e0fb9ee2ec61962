"""Recorded loss curves, read by the diagnostics: as they are, resampled in blocks, and with wrong answers planted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from unittest import mock

import numpy as np
from scipy.optimize import isotonic_regression

from benchmarks.recording.curves import Curves
from trainables.diagnostics import CurveMonitor, Finding
from trainables.diagnostics.curve_state import BETA_SAMPLES, fit_beta
from trainables.diagnostics.finding import Settings
from trainables.optim.lr_schedule import LRSchedule

MAX_GRAD_NORM = 1.0
# Steps of a block: residuals are independent from sample to sample (see the variances), so short blocks do.
BLOCK_STEPS = 4

# A setting is healthy when its mean gain is at least this part of the best setting's.
HEALTHY_PART = 0.8

# An LR is too high, or too low, when the setting's mean gain is below this part of the best setting's.
BAD_PART = 0.5


@dataclass(frozen=True)
class Samples:
    """One trial's samples in the order of the epoch."""

    nll: np.ndarray  # (samples,) running losses
    base: np.ndarray  # (samples,) the base model's
    tokens: np.ndarray  # (samples,) label tokens
    norms: np.ndarray  # (steps,) gradient norms
    batch: int  # samples a step

    def step(self, step: int) -> slice:
        return slice(step * self.batch, (step + 1) * self.batch)


def samples_of(curves: Curves, trial: int) -> Samples:
    row = curves.sets.index(str(curves.data[trial]))
    order = curves.order[trial].astype(int)
    return Samples(
        curves.item_nll[trial].astype(float),
        curves.base_item_nll[row][order].astype(float),
        curves.tokens[row][order].astype(float),
        curves.grad_norm[trial].astype(float),
        curves.batch_size,
    )


def read(samples: Samples, schedule: LRSchedule, base_level: float | None) -> list[Finding]:
    """Findings of a curve, up to the end of its trial or the first error."""
    return follow(samples, schedule, base_level)[0]


def follow(samples: Samples, schedule: LRSchedule, base_level: float | None) -> tuple[list[Finding], CurveMonitor]:
    """Findings of a curve, and the monitor that read it."""
    monitor = CurveMonitor(schedule, MAX_GRAD_NORM, base_level)
    found: list[Finding] = []
    for step in range(schedule.steps):
        own = samples.step(step)
        nll, tokens = samples.nll[own], samples.tokens[own]
        if np.isnan(nll).all() and np.isnan(samples.norms[step]):
            break
        loss = float(nll @ tokens / tokens.sum())
        base = None if base_level is None else samples.base[own].tolist()
        found += monitor.update(step + 1, loss, float(samples.norms[step]), schedule.lr(step), nll.tolist(), base)
        if any(finding["severity"] == "error" for finding in found):
            break
    return found, monitor


@dataclass(frozen=True)
class Setting:
    """All trials of one setting."""

    peak_lr: float  # its peak
    trials: tuple[int, ...]  # rows of the recording
    gain: float  # mean gain of the last held-out objective over the base model's, those that diverged as 0


def settings_of(curves: Curves) -> list[Setting]:
    """Settings of a recording, without planted trials."""
    rows: dict[tuple[float, ...], list[int]] = {}
    for trial in np.flatnonzero(curves.study != "planted").tolist():
        rows.setdefault(tuple(curves.params[trial].tolist()), []).append(trial)
    final = curves.base_objective - curves.objective[:, -1]
    gains = np.where(np.isfinite(final) & (curves.state == "complete"), final, 0.0)
    return [Setting(params[0], tuple(trials), float(gains[trials].mean())) for params, trials in rows.items()]


def label(settings: list[Setting]) -> dict[int, str]:
    """Labels a trial's LR "healthy", "too high" or "too low" by its setting's gain; others have no label."""
    best = max(settings, key=lambda setting: setting.gain)
    labels = {}
    for setting in settings:
        if setting.gain >= HEALTHY_PART * best.gain:
            labels.update(dict.fromkeys(setting.trials, "healthy"))
        elif setting.gain < BAD_PART * best.gain:
            side = "too high" if setting.peak_lr > best.peak_lr else "too low"
            labels.update(dict.fromkeys(setting.trials, side))
    return labels


def worse_at(curves: Curves, trial: int, base_level: float, *, raw: bool) -> float | None:
    """Part of the epoch at which a trial is found worse than its base model; None if never.

    Args:
        curves: The recording.
        trial: Its row.
        base_level: The base model's mean loss over the training set.
        raw: Hold beta at 1, which tests the raw `loss - base`.
    """
    schedule = curves.schedule(trial)
    held = mock.patch("trainables.diagnostics.curve_state.fit_beta", return_value=1.0) if raw else nullcontext()
    with held:
        found = read(samples_of(curves, trial), schedule, base_level)
    return next((one["step"] / schedule.steps for one in found if one["rule"] == "worse_than_base"), None)


def true_rise(curves: Curves, trials: tuple[int, ...]) -> float | None:
    """The true rise of the loss at peak LR, relative to its level, from the mean over a setting's trials.

    It is the mean of the last third of the peak phase less the lower of the earlier thirds' means, or the mean of the
    phase less the base model's, whichever is larger. None if fewer than three trials reach the end of the phase.
    """
    schedule = curves.schedule(trials[0])
    peak = Settings(schedule, MAX_GRAD_NORM).peak_steps
    thirds = np.array_split(np.array(peak), 3)
    means, over_base = [], []
    for trial in trials:
        samples = samples_of(curves, trial)
        adjusted = samples.nll - (samples.base - samples.base.mean()) * 0.5  # takes out much of the samples' difficulty
        if len(peak) >= 3 and np.isfinite(adjusted[samples.step(peak[-1])]).all():
            means.append([np.mean([adjusted[samples.step(step)].mean() for step in third]) for third in thirds])
            over_base.append(np.mean(means[-1]) - samples.base.mean())
    if len(means) < 3:
        return None
    first, second, last = np.mean(means, axis=0)
    return float(max(last - min(first, second), np.mean(over_base)) / last)


def resampled(samples: Samples, draw: np.random.Generator) -> Samples:
    """A curve whose level never rises, with real residuals: blocks of steps are resampled within each quarter.

    The level is the best non-increasing fit to the trial's own samples. Residuals, centered in each quarter, keep their
    base losses.
    """
    level = isotonic_regression(samples.nll, increasing=False).x
    left = samples.nll - level
    steps = len(samples.nll) // samples.batch
    source = np.arange(len(samples.nll))
    for quarter in np.array_split(np.arange(steps), 4):
        own = slice(quarter[0] * samples.batch, (quarter[-1] + 1) * samples.batch)
        left[own] -= left[own].mean()
        blocks = [quarter[start : start + BLOCK_STEPS] for start in range(0, len(quarter), BLOCK_STEPS)]
        drawn: list[int] = []
        while len(drawn) < len(quarter):
            drawn += blocks[int(draw.integers(len(blocks)))].tolist()
        for step, other in zip(quarter.tolist(), drawn, strict=False):
            source[samples.step(step)] = np.arange(other * samples.batch, (other + 1) * samples.batch)
    return Samples(level + left[source], samples.base[source], samples.tokens[source], samples.norms, samples.batch)


def variances(curves: Curves, trial: int, sibling: int | None) -> np.ndarray:
    """(kinds, 4 quarters): variance of loss, minus base, minus beta x base and, with a sibling, minus its loss.

    `sibling` is another complete trial with the same order of samples.
    """
    own = samples_of(curves, trial)
    pairs = np.stack([own.nll, own.base], 1)
    with_beta = own.nll.copy()
    for start in range(0, len(own.nll), own.batch):
        beta = fit_beta(pairs[max(0, start - BETA_SAMPLES) : start].tolist())
        with_beta[start : start + own.batch] -= beta * (own.base - own.base.mean())[start : start + own.batch]
    kinds = [own.nll, own.nll - own.base, with_beta]
    if sibling is not None:
        kinds.append(own.nll - samples_of(curves, sibling).nll)
    return np.array([[part.var(ddof=1) for part in np.array_split(kind, 4)] for kind in kinds])


def siblings(curves: Curves, healthy: set[int]) -> Iterator[tuple[int, int]]:
    """Pairs of healthy trials with the same samples and order, adjacent in peak LR."""
    for data, seed in sorted({(str(d), int(s)) for d, s in zip(curves.data, curves.seed, strict=True)}):
        same = [
            trial
            for trial in np.flatnonzero((curves.data == data) & (curves.seed == seed)).tolist()
            if trial in healthy and np.isfinite(curves.item_nll[trial]).all()
        ]
        same.sort(key=lambda trial: curves.params[trial, 0])
        yield from itertools.pairwise(same)
