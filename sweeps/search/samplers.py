"""Optuna's samplers by name, made to fit a search of few, dear trials on several lanes at once.

Every sampler is asked by `SweepSampler`, which adds what none of them has:

- the first trials of a model-based sampler are quasi-random over the whole space, not independent draws;
- no proposal is nearer than `SPACING` to a trial of the sweep that runs or has ended: a lane would be spent on what is
  being measured already;
- the Gaussian process is shown what it can model (`sweeps.search.gp`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Sequence
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
from trainables.errors import UserError

REDRAWS = 32
"""How often a proposal that is too near to a trial is drawn again, at most. Ours."""

MODELLING = ("gp", "tpe")


def make_sampler(config: SweepConfig, trials_done: int) -> SweepSampler:
    """The sampler that the config names.

    Its seed hangs on how many trials the ledger holds: with the same seed after a restart, the same points would be
    proposed again. The grid alone keeps its seed, and goes on with the cells that no trial has taken.

    Raises:
        UserError: The sampler needs a package that is not installed.
    """
    digest = hashlib.sha256(f"{config.seed}:{trials_done}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    cube, search = UnitCube(distributions(config)), config.search
    model = _model(config, cube, seed)
    return SweepSampler(model, cube, search.startup_trials if search.sampler in MODELLING else 0, seed)


def _model(config: SweepConfig, cube: UnitCube, seed: int) -> BaseSampler:
    startup = config.search.startup_trials
    match config.search.sampler:
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
            return OffsetGrid(cube, config.search.trials, config.seed)
        case "random":
            return RandomSampler(seed=seed)


def _quasi_random(seed: int) -> QMCSampler:
    """Sobol points, scrambled by the seed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 3.0, and still in 5.0
        return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)


class SweepSampler(BaseSampler):
    """A sampler's proposals, kept apart from the trials that the sweep has; see the module.

    Args:
        model: Who proposes.
        cube: The space, which no trial changes.
        startup: Ended trials before the model is asked; quasi-random points until then.
        seed: For the quasi-random points, and for proposals that are moved.
    """

    def __init__(self, model: BaseSampler, cube: UnitCube, startup: int, seed: int) -> None:
        self.model, self.cube, self.startup = model, cube, startup
        self.quasi_random, self.draw = _quasi_random(seed), np.random.default_rng(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space, from the first trial on."""
        return dict(self.cube.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A setting; nothing for a trial whose setting is given."""
        if search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        proposed = self._proposal(study, trial, trials, search_space)
        chosen, tries = self._apart(proposed, taken_points(self.cube, trials))
        if tries:
            moved = {"from": proposed, "tries": tries}
            study._storage.set_trial_user_attr(trial._trial_id, "moved", moved)
        return chosen

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """For what is not in the space: never asked for in a sweep."""
        return self.model.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Handed on."""
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
        for name in space.keys() - proposed.keys():  # of samplers that draw each hyper-parameter by itself
            proposed[name] = self.model.sample_independent(study, trial, name, space[name])
        return proposed

    def _apart(self, proposed: dict[str, Any], taken: Sequence[np.ndarray]) -> tuple[dict[str, Any], int]:
        """The proposal, or a setting near it that is `SPACING` from every trial, and how often it was drawn again.

        Draws lie around the proposal, farther out each time, so that whole numbers too find a free place. Where none
        is free (a space of few whole numbers, all tried) the proposal stays.
        """
        point = self.cube.to_unit(proposed)
        if self.cube.nearest(point, taken) >= SPACING:
            return proposed, 0
        for tries, radius in enumerate(np.geomspace(SPACING, 1.0, REDRAWS), start=1):
            direction = self.draw.normal(size=point.shape)
            moved = np.clip(point + radius * direction / np.linalg.norm(direction), 0.0, 1.0)
            params = self.cube.from_unit(moved)
            if self.cube.nearest(self.cube.to_unit(params), taken) >= SPACING:
                return params, tries
        return proposed, REDRAWS
