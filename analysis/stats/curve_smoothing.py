"""PURE. A loss curve reduced to a few points for drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

# All ours.
POINTS = 120  # points of a curve at most: a page 700 pixels wide shows no more of a moving mean
SMOOTHED_SHARE = 0.05  # of the steps, for the moving mean: it shows the trend, not the samples' difficulty
FEWEST_SMOOTHED = 3

# step, LR, loss, loss minus base loss, gradient norm, tokens
Step = tuple[int, float, float | None, float | None, float | None, float]


@dataclass(frozen=True)
class Curve:
    """A trial's smoothed curve at some of its steps; losses are means over label tokens, nats a token."""

    steps: list[int]  # (points,)
    loss: list[float | None]  # (points,) training loss; None where one of the steps' is not finite
    relative: list[float | None]  # (points,) minus the base model's on the same tokens; None where unknown
    lr: list[float]  # (points,)
    planned: int | None = None  # steps of the whole epoch; None where unknown
    # Not smoothed, means over the steps since the point before:
    raw: list[float | None] = field(default_factory=list)  # (points,) training loss
    grad_norm: list[float | None] = field(default_factory=list)  # (points,) before clipping; None where unknown
    speed: list[tuple[int, float]] = field(default_factory=list)  # steps, tokens a second up to there; maybe empty

    @property
    def has_base(self) -> bool:
        """Whether the base model's losses are there."""
        return any(value is not None for value in self.relative)


def thin(
    records: Iterable[Mapping[str, Any]],
    planned: int | None = None,
    points: int = POINTS,
    speed: Iterable[Mapping[str, Any]] = (),
) -> Curve:
    """Takes moving means of a curve over a twentieth of the steps (three at least), at evenly spaced steps.

    Args:
        records: The lines of `curve.jsonl`.
        planned: Steps of the whole epoch.
        points: Most points of the result.
        speed: The lines of `speed.jsonl`.
    """
    steps = [_step(record) for record in records]
    if not steps:
        return Curve([], [], [], [], planned)
    size = math.ceil(len(steps) / points)
    # The last step is always drawn, even after a shorter gap.
    ends = [*range(size, len(steps), size), len(steps)]
    width = max(size, FEWEST_SMOOTHED, round(SMOOTHED_SHARE * len(steps)))
    bins = [steps[max(0, end - width) : end] for end in ends]
    own = [steps[start:end] for start, end in pairwise([0, *ends])]
    return Curve(
        steps=[part[-1][0] for part in bins],
        loss=[_mean([(loss, tokens) for _, _, loss, _, _, tokens in part]) for part in bins],
        relative=[_mean([(relative, tokens) for _, _, _, relative, _, tokens in part]) for part in bins],
        raw=[_mean([(loss, tokens) for _, _, loss, _, _, tokens in part]) for part in own],
        grad_norm=[_mean([(norm, 1.0) for _, _, _, _, norm, _ in part]) for part in own],
        lr=[part[-1][1] for part in bins],
        planned=planned,
        speed=[(int(line["step"]), line["tokens"] / line["seconds"]) for line in speed],
    )


def _step(record: Mapping[str, Any]) -> Step:
    loss, base = _finite(record.get("loss")), _finite(record.get("base_loss"))
    relative = None if loss is None or base is None else loss - base
    norm, tokens = _finite(record.get("grad_norm")), float(record.get("tokens") or 1)
    return int(record["step"]), float(record["lr"]), loss, relative, norm, tokens


def _mean(values: list[tuple[float | None, float]]) -> float | None:
    # A missing value leaves a gap in the curve: a mean over the rest would hide it.
    known = [(value, tokens) for value, tokens in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(value * tokens for value, tokens in known) / sum(tokens for _, tokens in known)


def _finite(value: Any) -> float | None:
    # Some versions wrote the text "nan".
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
