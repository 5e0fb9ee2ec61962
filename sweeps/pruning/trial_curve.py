"""A trial's curve: every sample's loss, in the order of the epoch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.optim.lr_schedule import LRSchedule

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrialCurve:
    """A trial as far as it has come.

    Attributes:
        trial_id: Its id.
        seed: Its seed, which orders the samples.
        nll: (seen,) loss of each sample in the step that trained on it, in the epoch's order, nats a token.
        lr: (samples,) LR of the step that trains on each sample of the epoch.
        warmup_samples: Samples that are trained on during warm-up.
        decay: Shape and decay fraction of the LR schedule.
        heldout: Objective of each checkpoint so far by samples seen, nats a token.
        objective: Of the last checkpoint; None until the trial is complete.
        findings: What diagnostics saw, as in the ledger: `rule`, `step`, `evidence`.
    """

    trial_id: str
    seed: int
    nll: Array
    lr: Array
    warmup_samples: int
    heldout: Mapping[int, float] = field(default_factory=dict)
    objective: float | None = None
    findings: Sequence[Mapping[str, Any]] = ()
    decay: tuple[str, float] | None = None

    @property
    def samples(self) -> int:
        return len(self.lr)

    @property
    def seen(self) -> int:
        return len(self.nll)

    @cached_property
    def mean_lr(self) -> float:
        """Mean LR over the epoch's samples, trained on or not."""
        return float(np.mean(self.lr))


def read_curve(
    trial_id: str,
    seed: int,
    schedule: LRSchedule,
    samples: int,
    samples_per_step: int,
    steps: Sequence[Mapping[str, Any]],
    *,
    heldout: Mapping[int, float] | None = None,
    objective: float | None = None,
    findings: Sequence[Mapping[str, Any]] = (),
) -> TrialCurve:
    """Builds a trial's curve from the lines of its `curve.jsonl`.

    Args:
        trial_id: Its id.
        seed: Its seed.
        schedule: Its LR schedule.
        samples: Samples of the epoch.
        samples_per_step: Batch size x accumulation x workers.
        steps: The lines, from the first step on, with `step` and `item_nll`.
        heldout: Objective of each checkpoint by step.
        objective: Of the last checkpoint, for a complete trial.
        findings: Of its diagnostics.

    Raises:
        ValueError: A step is missing or repeated.
    """
    numbers = [int(step["step"]) for step in steps]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"{trial_id}: steps must be 1, 2, 3, …, got {len(numbers)} of them up to {max(numbers)}")
    # Samples are the common axis: trials with other batch sizes can be compared. The last batch may be short.
    lr = np.repeat([schedule.lr(step) for step in range(schedule.steps)], samples_per_step)[:samples]
    losses = [float(loss) for step in steps for loss in step["item_nll"]]
    return TrialCurve(
        trial_id=trial_id,
        seed=seed,
        nll=np.array(losses),
        lr=lr,
        warmup_samples=min(schedule.warmup_steps * samples_per_step, samples),
        heldout={min(step * samples_per_step, samples): value for step, value in (heldout or {}).items()},
        objective=objective,
        decay=(schedule.shape, schedule.decay_fraction),
        findings=findings,
    )
