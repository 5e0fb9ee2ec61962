"""How one epoch falls into steps, checkpoints and reports. PURE: a plan or a forecast needs no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.config.sections import TrainingConfig
from trainables.data.order import steps_in_epoch

REPORTS = 20
"""Reports that are spread over an epoch, beside those at its checkpoints."""


@dataclass(frozen=True)
class Epoch:
    """The steps of one epoch.

    Attributes:
        samples: Samples of the training set, each seen once.
        samples_per_step: Batch size x accumulation x workers; the last step may have fewer.
        steps: Optimiser steps.
        checkpoints: Numbers of steps done at which a checkpoint is written, ascending; the last is `steps`.
        report_points: Numbers of steps done at which the curve is reported; every checkpoint is one of them.
    """

    samples: int
    samples_per_step: int
    steps: int
    checkpoints: tuple[int, ...]
    report_points: frozenset[int]

    def samples_seen(self, steps: int) -> int:
        """Samples seen after a number of steps."""
        return min(steps * self.samples_per_step, self.samples)


def plan_epoch(samples: int, training: TrainingConfig, workers: int = 1) -> Epoch:
    """Lays out the epoch of a trial.

    Args:
        samples: Samples of the training set.
        training: The trial's training section, its searched values put in by `with_params`.
        workers: Workers that share the trial.
    """
    samples_per_step = training.batch_size * training.gradient_accumulation * workers
    steps = steps_in_epoch(samples, samples_per_step)
    checkpoints = checkpoint_steps(training.checkpoints_at, steps)
    return Epoch(samples, samples_per_step, steps, checkpoints, report_points(steps) | frozenset(checkpoints))


def checkpoint_steps(fractions: Sequence[float], steps: int) -> tuple[int, ...]:
    """The steps that are nearest to fractions of the epoch, none before step 1; in a short epoch some coincide."""
    return tuple(sorted({max(1, round(fraction * steps)) for fraction in fractions}))


def report_points(steps: int, reports: int = REPORTS) -> frozenset[int]:
    """Steps, evenly spread, at which the curve is reported: all of a short epoch, and the last of any."""
    return frozenset(-(-part * steps // reports) for part in range(1, reports + 1))
