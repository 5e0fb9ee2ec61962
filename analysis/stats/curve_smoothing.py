"""PURE. A loss curve made small enough to draw, without hiding where it went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

POINTS = 120
"""Points at most that a curve is drawn with: a page 700 pixels wide shows no more of a mean over neighbours. Ours."""

SMOOTHED_SHARE = 0.05
"""Part of the steps that a mean is taken over: the eye sees a trend, and not the samples' difficulty. Ours."""

FEWEST_SMOOTHED = 3


@dataclass(frozen=True)
class Curve:
    """A trial's curve, smoothed, at some of its steps."""

    steps: list[int]  # (points,) the steps
    # (points,) mean training loss over the label tokens of the steps that end there, nats a token; None where one of
    # them is not finite
    loss: list[float | None]
    # (points,) the same less the base model's on the same tokens; None where that was not computed
    relative: list[float | None]
    lr: list[float]  # (points,) LR of the step
    planned: int | None = None  # steps of the whole epoch; None where not known

    @property
    def has_base(self) -> bool:
        """Whether the base model's losses are there."""
        return any(value is not None for value in self.relative)


def thin(records: Iterable[Mapping[str, Any]], planned: int | None = None, points: int = POINTS) -> Curve:
    """Means over a window of a twentieth of the steps (three at least), read off at equally many steps each.

    Args:
        records: Lines of `curve.jsonl`, in order.
        planned: Steps of the whole epoch.
        points: Points at most.
    """
    steps = [_step(record) for record in records]
    if not steps:
        return Curve([], [], [], [], planned)
    size = math.ceil(len(steps) / points)
    ends = list(range(size, len(steps) + 1, size))
    if not ends or ends[-1] != len(steps):
        ends.append(len(steps))
    width = max(size, FEWEST_SMOOTHED, round(SMOOTHED_SHARE * len(steps)))
    bins = [steps[max(0, end - width) : end] for end in ends]
    return Curve(
        steps=[part[-1][0] for part in bins],
        loss=[_mean([(loss, tokens) for _, _, loss, _, tokens in part]) for part in bins],
        relative=[_mean([(_less(loss, base), tokens) for _, _, loss, base, tokens in part]) for part in bins],
        lr=[part[-1][1] for part in bins],
        planned=planned,
    )


def _step(record: Mapping[str, Any]) -> tuple[int, float, float | None, float | None, float]:
    return (
        int(record["step"]),
        float(record["lr"]),
        _finite(record.get("loss")),
        _finite(record.get("base_loss")),
        float(record.get("tokens") or 1),
    )


def _less(loss: float | None, base: float | None) -> float | None:
    return None if loss is None or base is None else loss - base


def _mean(values: list[tuple[float | None, float]]) -> float | None:
    """Mean by tokens; None where a value is missing."""
    known = [(value, tokens) for value, tokens in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(value * tokens for value, tokens in known) / sum(tokens for _, tokens in known)


def _finite(value: Any) -> float | None:
    """The number; None where it is missing, not finite, or written as the text "nan"."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
