"""Trials and jobs as the driver stores and exchanges them: typed dictionaries, JSON values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from trainables.config.sections import Params
from trainables.config.trial_spec import TrialSpec
from trainables.diagnostics.finding import Finding

Areas = dict[str, dict[str, Any]]
"""Summary of each held-out area by name: `nll` and the metrics of its scorers."""


State = Literal["complete", "pruned", "diverged", "failed", "interrupted", "paused"]


RETRAIN: Literal["retrain"] = "retrain"
COMPARED = ("search", "replicate")
"""Kinds of trials whose scores can be compared: a whole epoch on the training samples alone."""


class CheckpointRecord(TypedDict):
    """A scored checkpoint of a trial.

    Attributes:
        step: Optimizer step, from 1.
        path: Its folder, relative to the sweep's.
        areas: Held-out scores.
        kept: Whether the checkpoint is still stored; missing in records of sweeps that kept every checkpoint.
    """

    step: int
    path: str
    areas: Areas
    kept: NotRequired[bool]


class TrialRecord(TypedDict):
    """A trial that has ended: a line of `trials.jsonl`, and `trial` in the ledger's `trial_ended`.

    Attributes:
        state: How it ended. An interrupted or paused trial never gets into `trials.jsonl`: it is resumed, or ended as
            pruned where it paused.
        replicate_of: The search trial whose setting this trial repeats.
        fraction: Part of the training set in its epoch.
        params: Hyper-parameters as trained; `drawn` holds those that the sampler proposed and the trial adjusted.
        went_on_from_step: Step from which the last attempt resumed.
        cost: Seconds and memory, as the lane measured them.
        attempts: Times that a lane began it, in this attempt.
        attempt: Number of the attempt, from 1: a resume makes another one at a trial that failed. Missing in records of
            sweeps that made none.
        predicted: Final objective predicted for a pruned trial, nats a token.
    """

    trial_id: str
    state: State
    kind: Literal["search", "replicate", "subset", "retrain"]
    replicate_of: str | None
    fraction: float
    seed: int
    params: Params
    drawn: Params | None
    precision: str | None
    steps: int
    steps_planned: int | None
    samples_seen: int
    went_on_from_step: int | None
    checkpoints: list[CheckpointRecord]
    findings: list[Finding]
    cost: dict[str, Any] | None
    attempts: int
    preempted: int
    error: str | None
    predicted: NotRequired[float | None]
    attempt: NotRequired[int]


def spec_of(record: TrialRecord) -> TrialSpec:
    """The spec of a trial's record."""
    fields: dict[str, Any] = {name: value for name, value in record.items() if name in TrialSpec.model_fields}
    return TrialSpec(**fields)


@dataclass(frozen=True)
class StoppedTrials:
    """Trials that were stopped or paused. The pruner and the search write; the recorder and the search read.

    Attributes:
        predictions: Final objective that each trial would have reached, by trial id, nats a token.
        findings: Why each was stopped, by trial id, where its own curve does not show it.
    """

    predictions: dict[str, float] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
