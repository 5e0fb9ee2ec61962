"""What the Gaussian process is shown of a sweep, so that it models the settings that matter.

Optuna's sampler scales all objectives by their standard deviation and assumes them smooth. A diverged trial, told as
the base model's objective, is often tens of times farther from the best than the settings that matter are from each
other, and lies beyond a cliff. So the sampler works on a copy of the study in which

- the range of the peak LR ends short of divergence (`short_of_divergence`), and what diverged beyond is left out;
- objectives far from the best are moved nearer (`flattened`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import GPSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeps.search.search_space import Distribution, UnitCube
from sweeps.search.tell import DIVERGED
from trainables.config.sections import Params

FAR_FROM_BEST = 3.0
"""Where objectives begin to be flattened, in distances of the median from the best. Ours."""

LR = "peak_lr"


def propose(sampler: GPSampler, trials: Sequence[FrozenTrial], cube: UnitCube) -> Params:
    """The sampler's proposal; empty while too few trials have completed.

    Args:
        sampler: Optuna's.
        trials: The study's; those that run are taken into account.
        cube: The space.
    """
    whole = [trial for trial in trials if trial.params.keys() >= cube.space.keys()]
    complete = [trial for trial in whole if trial.state == TrialState.COMPLETE]
    shorter = short_of_divergence(cube, complete)
    inside = [trial for trial in whole if _inside(shorter, trial)]
    complete = [trial for trial in inside if trial.state == TrialState.COMPLETE]
    values = flattened([trial.value for trial in complete if trial.value is not None])
    running = [trial for trial in inside if trial.state == TrialState.RUNNING]
    shadow = optuna.create_study(storage=InMemoryStorage(), sampler=RandomSampler())
    shadow.add_trials([
        *(_copy(trial, shorter, float(value)) for trial, value in zip(complete, values, strict=True)),
        *(_copy(trial, shorter, None) for trial in running),
    ])  # fmt: skip
    shadow.ask()
    return sampler.sample_relative(shadow, shadow.trials[-1], {**shorter})


def short_of_divergence(cube: UnitCube, complete: Sequence[FrozenTrial]) -> dict[str, Distribution]:
    """The space with the peak LR's upper end half-way from the highest one that held to the next that diverged.

    Half-way on the scale of the range. Where the best settings lie at the edge, trials there move it: up when they
    hold, down when they diverge. A trial that diverged below one that held is no edge, but an observation. Without both
    kinds of trials, or where the peak LR is not searched, the space stays.
    """
    scale = cube.space.get(LR)
    held = [trial.params[LR] for trial in complete if scale and DIVERGED not in trial.user_attrs]
    diverged = [trial.params[LR] for trial in complete if scale and held and trial.params[LR] > max(held)]
    if not isinstance(scale, FloatDistribution) or not diverged:
        return cube.space
    edge = cube.between(LR, max(held), min(diverged))
    return {**cube.space, LR: FloatDistribution(scale.low, edge, log=scale.log)}


def flattened(values: Sequence[float]) -> np.ndarray:
    """Objectives with those far from the best moved nearer, their order kept.

    Above `knee = best + FAR_FROM_BEST * (median - best)` a value v becomes `knee + s * log(1 + (v - knee) / s)` with
    `s = median - best`, which joins smoothly.

    Args:
        values: Objectives, lower is better; finite.

    Returns:
        As many values; the lower half of them unchanged.
    """
    told = np.asarray(values, float)
    spread = float(np.median(told) - told.min()) if len(told) else 0.0
    if spread <= 0.0:
        return told
    knee = told.min() + FAR_FROM_BEST * spread
    beyond = np.maximum(told - knee, 0.0)
    return np.where(told > knee, knee + spread * np.log1p(beyond / spread), told)


def _inside(space: dict[str, Distribution], trial: FrozenTrial) -> bool:
    return all(scale.low <= trial.params[name] <= scale.high for name, scale in space.items())


def _copy(trial: FrozenTrial, space: dict[str, Distribution], value: float | None) -> FrozenTrial:
    params = {name: trial.params[name] for name in space}
    return create_trial(state=trial.state, value=value, params=params, distributions={**space})
