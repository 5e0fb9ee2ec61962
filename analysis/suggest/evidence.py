"""PURE. What a sweep has shown, in the words in which `analysis.suggest.advice` reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

DataVerdict = Literal["more data helps", "more data hardly helps", "undecided", "not measured"]


@dataclass(frozen=True)
class Span:
    """A searched range."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Setting:
    """A setting with a rank: what it was, and whether it is told apart from the winner (who is not, by definition)."""

    trial_id: str
    params: Mapping[str, float]
    tied: bool
    replicated: bool = False
    passes: bool = True


@dataclass(frozen=True)
class SweepEvidence:
    """What a sweep has shown.

    Attributes:
        space: Searched ranges by name.
        settings: Ranked ones, the winner first.
        diverged: Settings of trials that diverged.
        ended: Search trials that ended, in any state but failed.
        gain: The winner's gain over the base model, nats a token: low and high end of its interval; None if unknown.
        still_falling: Whether the winner's loss still fell when its epoch ended.
        more_data: What nested parts of the training set say.
        worse: Areas in which the winner is worse than the base model, with the difference in nats a token.
        data_limit: `data.limit`, where it left samples out; else None.
        max_grad_norm: Clipping threshold; 0 for none.
        confirm_budget: `confirm.budget`.
        trials: `search.trials`.
    """

    space: Mapping[str, Span]
    settings: Sequence[Setting]
    diverged: Sequence[Mapping[str, float]] = ()
    ended: int = 0
    gain: tuple[float, float] | None = None
    still_falling: bool = False
    more_data: DataVerdict = "not measured"
    worse: Mapping[str, float] = field(default_factory=dict)
    data_limit: int | None = None
    max_grad_norm: float = 1.0
    confirm_budget: int = 0
    trials: int = 16
