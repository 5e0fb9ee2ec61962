"""The search space as Optuna's distributions and as a unit cube, in which distances are comparable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sweeps.config.space import Choices, Range
from sweeps.config.sweep_config import SweepConfig
from trainables.config.hyperparameters import idle, is_integer_param
from trainables.config.sections import Params

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution

# Smallest distance in the unit cube between two trials of a sweep: 2 % of one range, far below what a trial's noise can
# resolve. Ours.
SPACING = 0.02

WARM_START = "warm_start"  # Optuna's user attribute of a trial that an earlier sweep trained


def distributions(config: SweepConfig) -> dict[str, Distribution]:
    """Optuna's distribution of every searched hyper-parameter, in the config's order."""
    found: dict[str, Distribution] = {}
    for name, value in config.space.items().items():
        if isinstance(value, Range) and is_integer_param(name):
            found[name] = IntDistribution(int(value.low), int(value.high), log=value.log)
        elif isinstance(value, Range):
            found[name] = FloatDistribution(value.low, value.high, log=value.log)
        elif isinstance(value, Choices):
            found[name] = CategoricalDistribution(value.values)
    return found


def fixed_params(config: SweepConfig) -> Params:
    """The hyper-parameters of the space with a fixed value."""
    return dict(config.space.fixed())


def holds(scale: Distribution, value: Any) -> bool:
    """Whether a value is one of the distribution's."""
    return value in scale.choices if isinstance(scale, CategoricalDistribution) else scale.low <= value <= scale.high


class UnitCube:
    """The space with every hyper-parameter scaled to 0 … 1, logarithmically where its distribution is.

    A choice is the middle of its equal part of 0 … 1; two different ones have the distance 1.
    """

    def __init__(self, space: Mapping[str, Distribution]) -> None:
        self.space = dict(space)
        self._chosen = np.array([isinstance(scale, CategoricalDistribution) for scale in space.values()])
        # A cache: every proposal needs the points of all trials.
        self._points: dict[tuple[Any, ...], np.ndarray] = {}

    def settled(self, params: Params) -> Params:
        """The setting with what does nothing in it at the middle of its range: settings that train the same are one."""
        middles = {name: _value(self.space[name], 0.5) for name in idle(params) if name in self.space}
        return {**params, **middles}

    def to_unit(self, params: Params) -> np.ndarray:
        """The point, (dimensions,), of a setting that has every hyper-parameter of the space."""
        params = self.settled(params)
        setting = tuple(params[name] for name in self.space)
        point = self._points.get(setting)
        if point is None:
            shares = [_share(scale, value) for scale, value in zip(self.space.values(), setting, strict=True)]
            point = self._points[setting] = np.array(shares)
        return point

    def from_unit(self, point: Sequence[float] | np.ndarray) -> Params:
        """The setting at a point; integers are rounded."""
        return self.settled({
            name: _value(scale, float(share)) for (name, scale), share in zip(self.space.items(), point, strict=True)
        })  # fmt: skip

    def values(self, name: str) -> float:
        """How many different values a hyper-parameter can have; infinite for one on a continuous scale."""
        scale = self.space[name]
        if isinstance(scale, CategoricalDistribution):
            return len(scale.choices)
        return scale.high - scale.low + 1 if isinstance(scale, IntDistribution) else math.inf

    def between(self, name: str, one: float, other: float) -> float:
        """The value half-way between two values of a hyper-parameter, on its scale."""
        scale = self.space[name]
        return _value(scale, 0.5 * (_share(scale, one) + _share(scale, other)))

    def nearest(self, point: np.ndarray, others: Sequence[np.ndarray]) -> float:
        """Euclidean distance to the nearest of the other points; infinite where there are none."""
        if not others:
            return math.inf
        apart = np.stack(others) - point
        return float(np.linalg.norm(np.where(self._chosen, apart != 0.0, apart), axis=1).min())


def taken_points(cube: UnitCube, trials: Sequence[FrozenTrial]) -> list[np.ndarray]:
    """Points of the sweep's own trials, running ones included."""
    # A failed trial measured nothing, and a trial of an earlier sweep can't win this one: both may be proposed again.
    return [
        cube.to_unit(trial.params)
        for trial in trials
        if trial.state not in (TrialState.FAIL, TrialState.WAITING)
        and WARM_START not in trial.user_attrs
        and trial.params.keys() >= cube.space.keys()
    ]


def _share(scale: Distribution, value: Any) -> float:
    if isinstance(scale, CategoricalDistribution):
        return (scale.choices.index(value) + 0.5) / len(scale.choices)
    low, high = scale.low, scale.high
    if scale.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _value(scale: Distribution, share: float) -> Any:
    if isinstance(scale, CategoricalDistribution):
        return scale.choices[min(int(share * len(scale.choices)), len(scale.choices) - 1)]
    low, high = scale.low, scale.high
    value = low * (high / low) ** share if scale.log else low + share * (high - low)
    value = min(max(value, low), high)  # rounding may pass an end by a last bit
    return int(min(max(round(value), low), high)) if isinstance(scale, IntDistribution) else value
