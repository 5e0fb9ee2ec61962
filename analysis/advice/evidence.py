"""PURE. A sweep's evidence, as `analysis.advice.advice` reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

DataVerdict = Literal["more data helps", "more data hardly helps", "undecided", "not measured"]


@dataclass(frozen=True)
class Advice:
    """One piece of advice."""

    rule: str  # the rule behind it
    reason: str  # the evidence and what to do, as sentences
    # config values by dotted key; empty where no config value helps
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A searched range."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Position of a value on the range's scale: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Setting:
    """A ranked setting; `tied` if no difference from the winner is established, `passes` if no guard-rail failed."""

    trial_id: str
    params: Mapping[str, float]
    tied: bool
    replicated: bool = False
    passes: bool = True


@dataclass(frozen=True)
class SweepEvidence:
    """A sweep's results in the terms of the advice."""

    space: Mapping[str, Span]  # searched ranges by name
    settings: Sequence[Setting]  # ranked settings, the winner first
    seeds_known: bool = True  # whether the spread between seeds was measured or stated
    diverged: Sequence[Mapping[str, float]] = ()  # hyper-parameters of trials that diverged
    ended: int = 0  # search trials that ended, in any state but failed
    # interval of the winner's gain over the base model, nats a token; None if unknown
    gain: tuple[float, float] | None = None
    still_falling: bool = False  # whether the winner's loss still fell when its epoch ended
    more_data: DataVerdict = "not measured"  # verdict of the trials on nested parts of the training set
    # areas in which the winner is worse than the base model, with the difference in nats a token
    worse: Mapping[str, float] = field(default_factory=dict)
    data_limit: int | None = None  # `data.limit` if it left samples out; else None
    max_grad_norm: float = 1.0  # clipping threshold; 0 for none
    confirm_budget: int = 0  # `confirm.budget`
    trials: int = 16  # `search.trials`
    # answers of the best setting by area that had not ended: how many, of how many, and the area's `max_new_tokens`
    cut_answers: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    answers_decide: bool = False  # whether the objective is a metric of answers
    none_right: str | None = None  # the metric of answers that is 0 on every item for the best setting; None for none
    steps: int | None = None  # training steps of the best trial
    samples: int | None = None  # training samples of the best trial
