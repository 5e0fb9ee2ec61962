"""The Gaussian process' view of the study.

Optuna's sampler scales all objectives by their standard deviation and assumes them smooth. A diverged trial counts as
the base model: often tens of times farther from the best than the good settings are from each other, and beyond a
cliff. So the sampler works on a copy of the study in which

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

from sweeps.search.search_space import Distribution, UnitCube, holds
from sweeps.search.tell import DIVERGED
from trainables.config.sections import Params

FAR_FROM_BEST = 3.0  # where flattening begins, in distances of the median from the best; ours

LR = "peak_lr"


def propose(sampler: GPSampler, trials: Sequence[FrozenTrial], cube: UnitCube) -> Params:
    """Proposes a setting with Optuna's sampler; empty while too few trials have completed."""
    whole = [trial for trial in trials if trial.params.keys() >= cube.space.keys()]
    complete = [trial for trial in whole if trial.state == TrialState.COMPLETE]
    shorter = short_of_divergence(cube, complete)
    inside = [trial for trial in whole if _inside(shorter, trial)]
    complete = [trial for trial in inside if trial.state == TrialState.COMPLETE]
    values = flattened([trial.value for trial in complete if trial.value is not None])
    # Running trials too: the sampler keeps its proposals away from them.
    running = [trial for trial in inside if trial.state == TrialState.RUNNING]
    shadow = optuna.create_study(storage=InMemoryStorage(), sampler=RandomSampler())
    shadow.add_trials([
        *(_copy(trial, shorter, float(value)) for trial, value in zip(complete, values, strict=True)),
        *(_copy(trial, shorter, None) for trial in running),
    ])  # fmt: skip
    shadow.ask()
    return sampler.sample_relative(shadow, shadow.trials[-1], {**shorter})


def short_of_divergence(cube: UnitCube, complete: Sequence[FrozenTrial]) -> dict[str, Distribution]:
    """Lowers the peak LR's upper end to half-way, on its scale, from the highest stable LR to the next diverged one.

    The space stays where no trial diverged, none was stable, or the peak LR is not searched.
    """
    scale = cube.space.get(LR)
    # The edge moves with new trials: up when they hold, down when they diverge. A trial that diverged below a stable
    # one is no edge, but an observation.
    held = [trial.params[LR] for trial in complete if scale and DIVERGED not in trial.user_attrs]
    diverged = [trial.params[LR] for trial in complete if scale and held and trial.params[LR] > max(held)]
    if not isinstance(scale, FloatDistribution) or not diverged:
        return cube.space
    edge = cube.between(LR, max(held), min(diverged))
    return {**cube.space, LR: FloatDistribution(scale.low, edge, log=scale.log)}


def flattened(values: Sequence[float]) -> np.ndarray:
    """Moves finite objectives far from the best (lowest) nearer to it; keeps their order and the lower half.

    Above `knee = best + FAR_FROM_BEST * (median - best)` a value v becomes `knee + s * log(1 + (v - knee) / s)` with
    `s = median - best`, which has slope 1 at the knee.
    """
    raw = np.asarray(values, float)
    spread = float(np.median(raw) - raw.min()) if len(raw) else 0.0
    if spread <= 0.0:
        return raw
    knee = raw.min() + FAR_FROM_BEST * spread
    beyond = np.maximum(raw - knee, 0.0)
    return np.where(raw > knee, knee + spread * np.log1p(beyond / spread), raw)


def _inside(space: dict[str, Distribution], trial: FrozenTrial) -> bool:
    return all(holds(scale, trial.params[name]) for name, scale in space.items())


def _copy(trial: FrozenTrial, space: dict[str, Distribution], value: float | None) -> FrozenTrial:
    params = {name: trial.params[name] for name in space}
    return create_trial(state=trial.state, value=value, params=params, distributions={**space})
