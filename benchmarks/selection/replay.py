"""One search by one method on one surface, seed and level of noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import Trial

from analysis.stats.objective_model import fit
from sweeps.config.sweep_config import SweepConfig
from sweeps.plan.lr_bounds import Bounds, recommended_point
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import UnitCube, distributions
from sweeps.search.tell import TrialOutcome, outcome_of
from trainables.config.sections import Params


class Surface(Protocol):
    """True objectives of settings."""

    name: str
    group: str  # surfaces of one group are resampled together
    base: float

    def loss(self, params: Params) -> float: ...
    def diverges(self, params: Params) -> bool: ...
    def best(self) -> float: ...


@dataclass(frozen=True)
class Case:
    """A surface and a seed."""

    surface: Surface  # what is searched
    number: int  # unique among the cases of a benchmark; seeds the methods
    space: dict[str, Any]  # the section `space` of the config
    growth: float = 0.0  # noise grows as the LR to this power, from its level in the middle of the LR's range

    @cached_property
    def config(self) -> SweepConfig:
        return SweepConfig.model_validate({
            "name": "replay", "objective": "replay", "seed": self.number, "model": {"name": "replay"},
            "data": {"train": "replay"}, "heldout": {"areas": {"replay": "replay"}}, "space": self.space,
        })  # fmt: skip

    @cached_property
    def lowest(self) -> float:
        return self.surface.best()

    def recommended(self) -> Params:
        ends = self.config.space.ends()
        bounds = Bounds(ends["peak_lr"], ends["decay_floor"], ends["warmup_fraction"], "")
        return recommended_point(bounds, self.config.model.method)


@dataclass(frozen=True)
class Evaluated:
    """A trial of a replay: the objective with noise, and the true one."""

    noisy: float
    true: float
    params: Params = field(default_factory=dict)
    complete: bool = True  # it did not diverge


Noise = np.ndarray  # (trials,): what is added to each trial's objective, in nats a token
Method = Callable[[Case, Noise, int], list[Evaluated]]
Naming = Callable[[Case, Sequence[Evaluated]], Evaluated]


def ours(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    """The sweep's own sampler with its default config, of as many trials as there is noise for."""
    search = case.config.search.model_copy(update={"trials": len(noise)})
    config = case.config.model_copy(update={"search": search})
    return _search(case, noise, lanes, make_sampler(config, 0), [case.recommended()])


def ours_unpointed(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    return _search(case, noise, lanes, make_sampler(case.config, 0), [])


def tpe_default(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    """TPE with Optuna's defaults: ten random trials first."""
    return _search(case, noise, lanes, TPESampler(seed=case.number), [])


def tpe_started(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    """TPE with four start-up trials, the recommended point among them."""
    return _search(case, noise, lanes, TPESampler(seed=case.number, n_startup_trials=4), [case.recommended()])


def random(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    return _search(case, noise, lanes, optuna.samplers.RandomSampler(seed=case.number), [])


def offset_grid(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    """Equally spaced peak LRs with a random offset; all else is drawn at random.

    This grid knows that only the peak LR matters, which the sweep doesn't.
    """
    del lanes
    cube, draw = UnitCube(distributions(case.config)), np.random.default_rng([case.number, 1])
    points = draw.uniform(size=(len(noise), len(cube.space)))
    points[:, list(cube.space).index("peak_lr")] = (np.arange(len(noise)) + draw.uniform()) / len(noise)
    settings = [cube.from_unit(point) for point in points]
    return [
        _evaluated(case, params, *_outcome(case, params, added)) for params, added in zip(settings, noise, strict=True)
    ]


def project_grid(case: Case, noise: Noise, lanes: int) -> list[Evaluated]:
    """The sweep's own `grid`, over all searched hyper-parameters."""
    search = case.config.search.model_copy(update={"sampler": "grid", "trials": len(noise)})
    config = case.config.model_copy(update={"search": search})
    return _search(case, noise, lanes, make_sampler(config, 0), [])


# Methods whose proposals don't hang on how many trials there will be: a longer replay starts with the shorter one.
UNPLANNED: dict[str, Method] = {
    "ours": ours,
    "ours_unpointed": ours_unpointed,
    "tpe_default": tpe_default,
    "tpe_started": tpe_started,
    "random": random,
}
PLANNED: dict[str, Method] = {"offset_grid": offset_grid, "project_grid": project_grid}


def _search(case: Case, noise: Noise, lanes: int, sampler: BaseSampler, points: Sequence[Params]) -> list[Evaluated]:
    """Runs `lanes` trials at once; the first to start is the first to end."""
    study, space = optuna.create_study(sampler=sampler), distributions(case.config)
    for point in points:
        study.enqueue_trial({name: point[name] for name in space})
    running: list[Trial] = []
    seen: list[Evaluated] = []
    for _ in noise:
        running.append(study.ask(fixed_distributions=space))
        if len(running) == lanes:
            seen.append(_end(case, study, running.pop(0), noise))
    return seen + [_end(case, study, trial, noise) for trial in running]


def _end(case: Case, study: optuna.Study, trial: Trial, noise: Noise) -> Evaluated:
    outcome, true = _outcome(case, trial.params, noise[trial.number])
    for name, value in outcome.attrs.items():
        trial.set_user_attr(name, value)
    study.tell(trial, outcome.value, state=outcome.state)
    return _evaluated(case, trial.params, outcome, true)


def _outcome(case: Case, params: Params, added: float) -> tuple[TrialOutcome, float]:
    """The outcome that the sweep would report for a setting, and the true objective."""
    true = case.surface.loss(params)
    state = "diverged" if case.surface.diverges(params) else "complete"
    low, high = case.config.space.ends()["peak_lr"]
    noisy = true + float(added) * (params["peak_lr"] / math.sqrt(low * high)) ** case.growth
    return outcome_of(state, noisy, None, case.surface.base, []), true


def _evaluated(case: Case, params: Params, outcome: TrialOutcome, true: float) -> Evaluated:
    assert outcome.value is not None
    return Evaluated(outcome.value, true, params, not case.surface.diverges(params))


def lowest(case: Case, seen: Sequence[Evaluated]) -> Evaluated:
    """The trial with the lowest noisy objective."""
    del case
    return min(seen, key=lambda one: one.noisy)


def by_model(case: Case, seen: Sequence[Evaluated]) -> Evaluated:
    """The trial with the lowest posterior mean among those that are complete, as the leaderboard names it."""
    complete = [one for one in seen if one.complete]
    ends = case.config.space.ends()
    others = [name for name in ends if name != "peak_lr"]
    if not complete:
        return lowest(case, seen)
    found = fit(
        np.log10([one.params["peak_lr"] for one in complete]),
        np.array([[(one.params[n] - ends[n][0]) / (ends[n][1] - ends[n][0]) for n in others] for one in complete]),
        np.array([one.noisy for one in complete]),
    )
    return lowest(case, complete) if found is None else complete[int(np.argmin(found.mean))]


def regret(case: Case, seen: Sequence[Evaluated], name: Naming = lowest) -> float:
    """True objective of the named setting above the true minimum; nats a token."""
    return name(case, seen).true - case.lowest


def draw_noise(case: Case, sd_nats: float, trials: int) -> Noise:
    """Noise by trial, the same for all methods; a longer replay starts with that of a shorter one."""
    return np.random.default_rng([case.number, round(1e6 * sd_nats)]).normal(0.0, sd_nats, trials)
