"""The number that a sweep minimizes, and the metric behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NLL = "nll"
ALWAYS_SCORED = ("exact_match", "token_f1")  # wherever there are answers, whatever an area's scorers are
# Ours. A hundredth of a nat is a tenth of what seeds of a small model differ by, and one point is what people report.
WORTHWHILE_NATS, WORTHWHILE_SHARE = 0.01, 0.01
LABELS = {NLL: "held-out loss", "exact_match": "exact match", "token_f1": "token F1"}


@dataclass(frozen=True)
class Measure:
    """The metric that decides (`objective.metric`).

    All code that ranks takes a value of which lower is better: the NLL itself, or 1 minus any other metric. Figures
    that people read are turned back.
    """

    metric: str = NLL

    @property
    def higher_is_better(self) -> bool:
        """True of every metric but the NLL."""
        return self.metric != NLL

    @property
    def label(self) -> str:
        """The metric in words."""
        return LABELS.get(self.metric, self.metric)

    @property
    def unit(self) -> str:
        """Unit of a value and of a difference."""
        return f"of 1 in {self.label}" if self.higher_is_better else "nats/token"

    @property
    def worthwhile(self) -> float:
        """Smallest difference that is worth having, where the config states none."""
        return WORTHWHILE_SHARE if self.higher_is_better else WORTHWHILE_NATS

    def turned(self, value: float) -> float:
        """The metric's value as the value that is minimized, and back: the function is its own inverse."""
        return 1 - value if self.higher_is_better else value

    def objective(self, areas: Mapping[str, Mapping[str, Any]], weights: Mapping[str, float]) -> float:
        """Average the areas' means by weight, lower is better; NaN where an area has no answers.

        Args:
            areas: Summaries by area; every area that has a weight must be there.
            weights: Weight above 0 of each area that selects. Areas without a weight don't count.

        Raises:
            KeyError: An area with a weight has no summary.
        """
        means = {name: areas[name].get(self.metric) for name in weights}
        known = {name: math.nan if mean is None else self.turned(mean) for name, mean in means.items()}
        return sum(weight * known[name] for name, weight in weights.items()) / sum(weights.values())

    def by_step(self, record: Mapping[str, Any], weights: Mapping[str, float]) -> dict[int, float]:
        """The objective at each checkpoint of a trial's record, lower is better; NaN where it has no answers."""
        return {point["step"]: self.objective(point["areas"], weights) for point in record["checkpoints"]}


def objective(areas: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> float:
    """`Measure.objective` of the NLL, in nats a token: what pruning and pausing go by, whatever decides in the end."""
    return Measure().objective(areas, weights)


def objectives_by_step(record: Mapping[str, Any], weights: Mapping[str, float]) -> dict[int, float]:
    """The NLL at each checkpoint of a trial's record, in nats a token."""
    return Measure().by_step(record, weights)
