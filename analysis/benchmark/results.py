"""PURE. A benchmark's results as figures: who is best, who is tied, by which unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.stats import bootstrap
from analysis.stats.bootstrap import Array
from analysis.stats.multiple_comparisons import pair_tail
from analysis.stats.rare_disagreement import rare_mean_error
from analysis.stats.seed_variance import critical_value
from trainables.evaluation.objective import LABELS, NLL

BITS = "bits_per_byte"
LOWER_IS_BETTER = (NLL, BITS)
NAMES = {**LABELS, BITS: "bits a byte"}
# Of a mean: what loading the same weights in another form changes, as the export's check allows (float32).
ROUNDING = 1e-4

Item = Mapping[str, Any]
Key = tuple[str, str]  # an area and an item's id


def bits_per_byte(nll: float, tokens: int, bytes_: int) -> float:
    """An item's loss in bits for each byte of its answer, which no tokenizer changes.

    Args:
        nll: Mean loss of its tokens, nats a token.
        tokens: Number of them, end tokens included.
        bytes_: UTF-8 bytes of the text that they write, 1 and up.
    """
    return nll * tokens / (math.log(2) * bytes_)


@dataclass(frozen=True)
class Scored:
    """A model with its results.

    Attributes:
        label: Its name, unique in the table.
        entry: What the storage has of it.
        items: Its results.
        tokens: By area, a hash of the tokens that it was scored on.
    """

    label: str
    entry: Mapping[str, Any]
    items: Mapping[Key, Item]
    tokens: Mapping[str, str]


def usual_metric(models: Sequence[Scored]) -> str:
    """The loss where all models were scored on the same tokens, else bits a byte."""
    return NLL if all(model.tokens == models[0].tokens for model in models) else BITS


@dataclass(frozen=True)
class Comparison:
    """Difference of one model's mean to another's, above 0 where it is worse.

    Attributes:
        value: The difference.
        low: Lower end of its interval over items, which holds for all pairs of models together; NaN where an area has
            a single cluster of items.
        high: Its upper end.
    """

    value: float
    low: float
    high: float

    @property
    def tied(self) -> bool:
        """Whether the interval reaches to within `ROUNDING` of zero, or is unknown."""
        return not (self.low > ROUNDING or self.high < -ROUNDING)

    @property
    def interval(self) -> list[float] | None:
        """Both ends; None where they are unknown."""
        return [self.low, self.high] if math.isfinite(self.low) else None


class Results:
    """All models that have a value on every item, compared item by item.

    Args:
        models: At least one; each with results on the same items.
        weights: Weight of each area.
        metric: "nll", "bits_per_byte", or a scorer.

    Attributes:
        ranked: The models, best first.
        defects: Why others have no rank, by label.
        metric: As given.
    """

    def __init__(self, models: Sequence[Scored], weights: Mapping[str, float], metric: str) -> None:
        self.metric, self.lower = metric, metric in LOWER_IS_BETTER
        self.keys = sorted(models[0].items)
        self.defects = {model.label: defect for model in models if (defect := self._defect(model))}
        able = [model for model in models if model.label not in self.defects]
        groups = [str(models[0].items[key]["group"]) for key in self.keys]
        self.design = bootstrap.make_design([area for area, _ in self.keys], groups, weights)
        self.values = np.array([[self._value(model.items[key]) for model in able] for key in self.keys])
        means = bootstrap.objective(self.design, self.values) if able else np.zeros(0)
        order = np.argsort(means, kind="stable")
        self.ranked = [able[index] for index in order]
        if able:
            self.values = self.values[:, order]
        self._draws = bootstrap.Bootstrap(self.design)

    def means(self) -> list[float]:
        """Each ranked model's mean over areas by weight, in the metric."""
        return [self._shown(float(mean)) for mean in bootstrap.objective(self.design, self.values)]

    def area_means(self) -> list[dict[str, float]]:
        """Each ranked model's mean in each area, in the metric."""
        means = bootstrap.area_means(self.design, self.values)
        return [
            {area: self._shown(float(means[index, k])) for index, area in enumerate(self.design.areas)}
            for k in range(len(self.ranked))
        ]

    def compare(self, one: int, other: int) -> Comparison:
        """How a model differs from another, by their places in `ranked`."""
        differences = self.values[:, one] - self.values[:, other]
        value = float(bootstrap.objective(self.design, differences[:, None])[0])
        error = float(np.std(self._draws.objective(differences[:, None]), ddof=1))
        if not self.lower and (rare := rare_mean_error(self.design, differences)) is not None:
            error = rare
        df = sum(clusters - 1 for clusters in self.design.clusters)
        reach = critical_value(pair_tail(len(self.ranked)), df) * error if df else math.nan
        return Comparison(value, value - reach, value + reach)

    def firsts(self) -> list[int]:
        """On how many items each ranked model is first; those that share the first place all count."""
        best = self.values.min(axis=1, keepdims=True)
        return [int(count) for count in (self.values <= best + 1e-9).sum(axis=0)]

    def places(self, key: Key) -> list[int]:
        """Each ranked model's place on one item, from 1; equal values share a place."""
        row: Array = self.values[self.keys.index(key)]
        return [1 + int((row < value - 1e-9).sum()) for value in row]

    def _value(self, item: Item) -> float:
        found = value_of(item, self.metric)
        return found if found is None or self.lower else 1 - found  # type: ignore[return-value]

    def _defect(self, model: Scored) -> str:
        values = (value_of(item, self.metric) for item in model.items.values())
        missing = sum(value is None or not math.isfinite(value) for value in values)
        return f"no {NAMES.get(self.metric, self.metric)} on {missing} of {len(self.keys)} items" if missing else ""

    def _shown(self, value: float) -> float:
        return value if self.lower else 1 - value


def value_of(item: Item, metric: str) -> float | None:
    """An item's value by a metric; None where it has none."""
    if metric == BITS:
        nll = item["nll"]
        return None if nll is None or not item["bytes"] else bits_per_byte(nll, item["tokens"], item["bytes"])
    if metric in ("nll", "exact_match", "token_f1"):
        return item[metric]
    return item["scores"].get(metric)
