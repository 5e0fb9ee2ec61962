"""Record the loss curve on the device; bring it to the host and to the diagnostics at report points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch

from trainables.diagnostics import CurveMonitor, Finding
from trainables.evaluation.base_losses import BaseLosses
from trainables.optim.lr_schedule import LRSchedule
from trainables.optim.step import BatchLosses
from trainables.optim.workers import World
from trainables.storage.json_numbers import number_or_nan


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step of the curve.

    Attributes:
        step: Optimizer steps done, 1 for the first.
        lr: LR of the step's update.
        loss: Mean loss over the step's label tokens (all micro-batches and workers), in nats; may be NaN or infinite.
        base_loss: The base model's loss on the same tokens; None if not computed.
        grad_norm: Total L2 norm of the gradient before clipping; may be NaN or infinite.
        clipped: Whether the gradient was scaled down.
        tokens: Label tokens of the step.
        ids: The step's samples.
        item_nll: Each sample's mean loss per label token, in nats, parallel to `ids`.
        item_tokens: Each sample's label tokens, parallel to `ids`.
        item_base_nll: The base model's `item_nll`; None if not computed.
    """

    step: int
    lr: float
    loss: float
    base_loss: float | None
    grad_norm: float
    clipped: bool
    tokens: int
    ids: list[str]
    item_nll: list[float]
    item_tokens: list[int]
    item_base_nll: list[float] | None = None


class CurveRecorder:
    """Buffers a trial's steps on the device and feeds them to the diagnostics.

    Args:
        schedule: The trial's LR schedule.
        max_grad_norm: Clipping threshold; 0 means no clipping.
        world: The workers that share the trial.
        base_losses: The base model's on every training sample; None if not computed.
    """

    def __init__(
        self, schedule: LRSchedule, max_grad_norm: float, world: World, base_losses: BaseLosses | None = None
    ) -> None:
        self.findings: list[Finding] = []
        self.monitor = CurveMonitor(schedule, max_grad_norm, base_losses.level if base_losses else None)
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self._world = world
        self._base = base_losses.nll if base_losses else None
        self._steps = 0
        self._pending: list[tuple[list[BatchLosses], torch.Tensor]] = []

    @property
    def diverged(self) -> bool:
        """Whether a finding says that the trial's result is not usable."""
        return any(finding["severity"] == "error" for finding in self.findings)

    def add(self, batches: list[BatchLosses], grad_norm: torch.Tensor) -> None:
        """Add a step: this worker's micro-batches (perhaps none) and the step's gradient norm."""
        self._pending.append((batches, grad_norm))

    def replay(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Feed the steps of an earlier start to the diagnostics; the next step follows them.

        Args:
            records: The curve's lines from the first step on; numbers that are not finite are None.
        """
        for line in records:
            loss, grad_norm = number_or_nan(line["loss"]), number_or_nan(line["grad_norm"])
            item_nll = [number_or_nan(loss) for loss in line["item_nll"]]
            base = line["item_base_nll"]
            self.findings += self.monitor.update(line["step"], loss, grad_norm, line["lr"], item_nll, base)
        self._steps += len(records)

    def flush(self) -> list[StepRecord]:
        """Bring the steps since the last flush to the host. Collective: every worker gets the steps of all."""
        pending, self._pending = self._pending, []
        if not pending:
            return []
        records = [self._record(workers) for workers in zip(*self._world.gather(_to_host(pending)), strict=True)]
        for record in records:
            self.findings += self.monitor.update(
                record.step, record.loss, record.grad_norm, record.lr, record.item_nll, record.item_base_nll
            )
        return records

    def _record(self, workers: tuple[_HostStep, ...]) -> StepRecord:
        """Merge the workers' parts of the next step."""
        self._steps += 1
        sums = [value for worker in workers for value in worker.sums]
        item_tokens = [count for worker in workers for count in worker.tokens]
        tokens, grad_norm = sum(item_tokens), workers[0].grad_norm
        ids = [name for worker in workers for name in worker.ids]
        base = None if self._base is None else [self._base[name] for name in ids]
        return StepRecord(
            step=self._steps,
            lr=self._schedule.lr(self._steps - 1),
            loss=sum(sums) / tokens,
            base_loss=None if base is None else _mean_loss(base, item_tokens),
            grad_norm=grad_norm,
            clipped=0.0 < self._max_grad_norm < grad_norm,
            tokens=tokens,
            ids=ids,
            item_nll=[value / count for value, count in zip(sums, item_tokens, strict=True)],
            item_tokens=item_tokens,
            item_base_nll=base,
        )


class _HostStep(NamedTuple):
    """One worker's part of a step on the host."""

    ids: list[str]
    tokens: list[int]
    sums: list[float]
    grad_norm: float


def _mean_loss(item_nll: list[float], item_tokens: list[int]) -> float:
    return sum(nll * count for nll, count in zip(item_nll, item_tokens, strict=True)) / sum(item_tokens)


def _to_host(pending: list[tuple[list[BatchLosses], torch.Tensor]]) -> list[_HostStep]:
    # One transfer for all pending numbers; each transfer would wait for the device.
    parts = [part for batches, grad_norm in pending for part in (*(batch.sums for batch in batches), grad_norm)]
    values = iter(torch.cat([part.double().reshape(-1) for part in parts]).tolist())
    steps = []
    for batches, _ in pending:
        ids = [name for batch in batches for name in batch.ids]
        tokens = [count for batch in batches for count in batch.tokens]
        steps.append(_HostStep(ids, tokens, list(islice(values, len(ids))), next(values)))
    return steps
