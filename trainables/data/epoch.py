"""Plan one epoch: its steps, checkpoints and reports, the order of its samples, and each worker's share. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.config.sections import TrainingConfig

# Ours. Reports at checkpoints come on top.
REPORTS = 20
# Ours: of the one permutation whose beginnings are the parts of a training set, for any seed of a trial.
NESTING_SEED = 4


@dataclass(frozen=True)
class Epoch:
    """The steps of one epoch.

    Attributes:
        samples: Samples of the training set, each trained on once.
        samples_per_step: Batch size x accumulation x workers; the last step may have fewer.
        steps: Optimizer steps.
        checkpoints: Steps after which a checkpoint is written, ascending; the last is `steps`.
        report_points: Steps after which the curve is reported; they include every checkpoint.
    """

    samples: int
    samples_per_step: int
    steps: int
    checkpoints: tuple[int, ...]
    report_points: frozenset[int]

    def samples_seen(self, steps: int) -> int:
        return min(steps * self.samples_per_step, self.samples)


def plan_epoch(samples: int, training: TrainingConfig, workers: int = 1) -> Epoch:
    """Plans the epoch of a trial.

    Args:
        samples: Samples of the training set.
        training: The trial's training section, with its searched values from `with_params`.
        workers: Workers that share the trial.
    """
    samples_per_step = training.batch_size * training.gradient_accumulation * workers
    steps = steps_in_epoch(samples, samples_per_step)
    checkpoints = checkpoint_steps(training.checkpoints_at, steps)
    return Epoch(samples, samples_per_step, steps, checkpoints, report_points(steps) | frozenset(checkpoints))


def checkpoint_steps(fractions: Sequence[float], steps: int) -> tuple[int, ...]:
    """The steps nearest to fractions of the epoch, 1 and up, ascending; in a short epoch some fractions share one."""
    return tuple(sorted({max(1, round(fraction * steps)) for fraction in fractions}))


def report_points(steps: int, reports: int = REPORTS) -> frozenset[int]:
    """At most `reports` steps, evenly spread, that end with the last step."""
    # Ceiling division, so that no point depends on the rounding of floats.
    return frozenset(-(-part * steps // reports) for part in range(1, reports + 1))


def epoch_order(n: int, seed: int, fraction: float = 1.0) -> np.ndarray:
    """The order of one epoch, the same for equal arguments on every machine.

    Args:
        n: Samples of the training set.
        seed: The trial's.
        fraction: Part of the samples, above 0 to 1. A larger part includes every smaller one, for any seeds.

    Returns:
        (samples,) indices below n, each at most once; at least one.
    """
    if fraction == 1.0:
        return _permutation(n, seed)
    part = _permutation(n, NESTING_SEED)[: max(1, round(n * fraction))]
    return part[_permutation(len(part), seed)]


def _permutation(n: int, seed: int) -> np.ndarray:
    # PCG64 by name: numpy may change the generator behind `default_rng`.
    return np.random.Generator(np.random.PCG64(seed)).permutation(n)


def steps_in_epoch(n: int, per_step: int) -> int:
    """Optimizer steps of an epoch over n samples, `per_step` each; the last may have fewer."""
    return -(-n // per_step)


def step_indices(order: np.ndarray, step: int, per_step: int) -> np.ndarray:
    """The samples of a step, for all workers and micro-batches.

    Args:
        order: The epoch's order, from `epoch_order`.
        step: 0 to `steps_in_epoch` - 1.
        per_step: Batch size x accumulation x workers.

    Raises:
        IndexError: The epoch has no such step.
    """
    if not 0 <= step < steps_in_epoch(len(order), per_step):
        raise IndexError(f"step {step} is not in an epoch of {steps_in_epoch(len(order), per_step)} steps")
    return order[step * per_step : (step + 1) * per_step]


def split_for_worker(indices: np.ndarray, rank: int, workers: int, batch_size: int) -> list[list[int]]:
    """One worker's micro-batches of a step.

    Each worker takes a contiguous part, and parts differ by at most one sample. In a short last step a worker may get
    fewer micro-batches than others, or none.

    Args:
        indices: The step's samples, from `step_indices`.
        rank: 0 to `workers` - 1.
        workers: Number of workers.
        batch_size: Most samples in a micro-batch.
    """
    own = np.array_split(indices, workers)[rank].tolist()
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]


def split_by_tokens(batches: list[list[int]], lengths: np.ndarray, most: int | None) -> list[list[int]]:
    """Splits batches into micro-batches of at most `most` tokens; the samples stay in order.

    Args:
        batches: Indices of samples.
        lengths: (samples,) tokens of each sample of the set.
        most: Most tokens of a micro-batch, padding not counted; a longer sample is one of its own. None for no limit.
    """
    if most is None:
        return batches
    found: list[list[int]] = []
    for batch in batches:
        tokens = most + 1  # so that a batch begins a micro-batch
        for index in batch:
            tokens += int(lengths[index])
            if tokens > most:
                found.append([])
                tokens = int(lengths[index])
            found[-1].append(index)
    return found
