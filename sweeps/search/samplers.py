"""Optuna's samplers by name, fitted to a search of few, expensive trials on several lanes at once.

`SweepSampler` wraps every sampler and adds what Optuna's lack:

- a model-based sampler starts from quasi-random points over the whole space, not from independent draws;
- no proposal is nearer than `SPACING` to a running or finished trial of the sweep: it would measure the same again;
- the Gaussian process sees a study that it can model (`sweeps.search.gp`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sweeps.config.sweep_config import SweepConfig
from sweeps.search.gp import propose
from sweeps.search.grid import OffsetGrid
from sweeps.search.search_space import SPACING, UnitCube, distributions, taken_points
from trainables.config.sections import Params
from trainables.errors import UserError

REDRAWS = 32  # draws at most around a proposal that is too near to a trial; ours

MODEL_BASED = ("gp", "tpe")


def make_sampler(
    config: SweepConfig, trials_done: int, is_new: Callable[[Params], bool] = lambda params: True
) -> SweepSampler:
    """Builds the config's sampler for a study that holds `trials_done` trials.

    Args:
        config: The sweep.
        trials_done: Trials in the study.
        is_new: Whether the next trial with these params would be another than all before.

    Raises:
        UserError: The sampler needs a package that is not installed.
    """
    # The count is part of the seed: with the same seed after a restart the same points would be proposed again.
    digest = hashlib.sha256(f"{config.seed}:{trials_done}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    cube, search = UnitCube(distributions(config)), config.search
    startup = search.startup_trials if search.chosen_sampler in MODEL_BASED else 0
    return SweepSampler(_optuna_sampler(config, cube, seed), cube, startup, seed, is_new)


def _optuna_sampler(config: SweepConfig, cube: UnitCube, seed: int) -> BaseSampler:
    startup = config.search.startup_trials
    match config.search.chosen_sampler:
        case "gp":
            return GPSampler(
                seed=seed, n_startup_trials=startup, deterministic_objective=False, warn_independent_sampling=False
            )
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)
        case "cmaes":
            if importlib.util.find_spec("cmaes") is None:
                raise UserError("search.sampler", "cmaes needs the package cmaes", "none", "pip install cmaes")
            return CmaEsSampler(seed=seed, n_startup_trials=0, warn_independent_sampling=False)
        case "qmc":
            return _quasi_random(seed)
        case "grid":
            # The sweep's own seed: a resumed grid keeps its place and goes on with the cells that no trial has taken.
            return OffsetGrid(cube, config.search.trials, config.seed)
        case _:
            return RandomSampler(seed=seed)


def _quasi_random(seed: int) -> QMCSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.0, and still in 5.0
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)  # Sobol by default


class SweepSampler(BaseSampler):
    """Keeps proposals of `model` apart from the sweep's trials; Sobol points until `startup` trials are complete."""

    def __init__(
        self,
        model: BaseSampler,
        cube: UnitCube,
        startup: int,
        seed: int,
        is_new: Callable[[Params], bool] = lambda params: True,
    ) -> None:
        self.model, self.cube, self.startup, self.is_new = model, cube, startup, is_new
        self.quasi_random, self.draw = _quasi_random(seed), np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.cube.space)  # from the first trial on; Optuna would infer it from completed ones

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Proposes a setting; nothing for an enqueued trial, whose setting is given."""
        if search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        proposed = self.cube.settled(self._proposal(study, trial, trials, search_space))
        chosen, tries = self._keep_apart(proposed, taken_points(self.cube, trials))
        if tries:
            moved = {"from": proposed, "tries": tries}
            study._storage.set_trial_user_attr(trial._trial_id, "moved", moved)
        return chosen

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.model.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.model.after_trial(study, trial, state, values)

    def _proposal(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        trials: Sequence[FrozenTrial],
        space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        if sum(other.state == TrialState.COMPLETE for other in trials) < self.startup:
            return self.quasi_random.sample_relative(study, trial, space)
        if isinstance(self.model, GPSampler):
            proposed = propose(self.model, trials, self.cube)
        else:
            proposed = self.model.sample_relative(study, trial, space)
        # Samplers without a joint proposal draw each hyper-parameter by itself. In the space's order: a set's order
        # depends on PYTHONHASHSEED, and each draw advances the sampler's generator.
        for name in space:
            if name not in proposed:
                proposed[name] = self.model.sample_independent(study, trial, name, space[name])
        return proposed

    def _keep_apart(self, proposed: dict[str, Any], taken: Sequence[np.ndarray]) -> tuple[dict[str, Any], int]:
        """Returns the proposal, or a setting near it that is `SPACING` from every trial, and the number of redraws.

        It must also train something new: settings that lie apart may round to the same steps.
        """
        point = self.cube.to_unit(proposed)
        if self.cube.nearest(point, taken) >= SPACING and self.is_new(proposed):
            return proposed, 0
        # Farther out with each draw, so that whole numbers find a free place too.
        for tries, radius in enumerate(np.geomspace(SPACING, 1.0, REDRAWS), start=1):
            direction = self.draw.normal(size=point.shape)
            moved = np.clip(point + radius * direction / np.linalg.norm(direction), 0.0, 1.0)
            params = self.cube.from_unit(moved)
            if self.cube.nearest(self.cube.to_unit(params), taken) >= SPACING and self.is_new(params):
                return params, tries
        return proposed, REDRAWS  # no free place: a space of few whole numbers, all of them tried
