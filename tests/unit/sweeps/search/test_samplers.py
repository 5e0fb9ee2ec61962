"""Who proposes: samplers by name, the distance between proposals, the offset grid, flattened values."""

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.samplers import GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from sweeps.search.gp import flattened
from sweeps.search.grid import OffsetGrid, grid, grid_levels
from sweeps.search.samplers import REDRAWS, make_sampler
from sweeps.search.search_space import SPACING, WARM_START, UnitCube, distributions, taken_points
from trainables.errors import UserError


@pytest.fixture
def begin(load):
    """A small config with overrides, and a study with its sampler."""

    def begin(*overrides, trials_done=0):
        config = load(*overrides)
        return config, optuna.create_study(sampler=make_sampler(config, trials_done))

    return begin


def ask(study, config):
    return study.ask(fixed_distributions=distributions(config))


def points(study, config):
    cube = UnitCube(distributions(config))
    return [cube.to_unit(trial.params) for trial in study.get_trials() if trial.params]


def nearest_pair(places):
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2))


KINDS = {"gp": GPSampler, "tpe": TPESampler, "random": RandomSampler, "qmc": QMCSampler, "grid": OffsetGrid}


def test_cmaes_without_its_package_says_what_to_install(load, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"search.sampler: cmaes needs .*; pip install cmaes"):
        make_sampler(load("search.sampler=cmaes"), 0)


def test_cmaes_searches_around_the_best(begin):
    pytest.importorskip("cmaes")
    config, study = begin("search.sampler=cmaes")
    cube = UnitCube(distributions(config))
    for _ in range(40):
        trial = ask(study, config)
        study.tell(trial, float(np.sum((cube.to_unit(trial.params) - 0.8) ** 2)))
    early, late = points(study, config)[:7], points(study, config)[-7:]
    assert np.mean([np.linalg.norm(p - 0.8) for p in late]) < 0.7 * np.mean([np.linalg.norm(p - 0.8) for p in early])


@pytest.mark.parametrize("name", KINDS)
def test_eight_lanes_get_no_near_duplicates_and_every_value_is_inside_the_space(begin, name):
    config, study = begin(f"search.sampler={name}", "search.trials=14", "space.decay_floor={low: 2e-5, high: 4e-5}")
    assert type(study.sampler.model) is KINDS[name]
    running = [ask(study, config) for _ in range(8)]
    for step in range(6):
        study.tell(running.pop(0), 1.0 + 0.1 * step)
        running.append(ask(study, config))
    assert nearest_pair(points(study, config)) >= SPACING
    for trial, (key, scale) in itertools.product(study.get_trials(), distributions(config).items()):
        assert scale.low <= trial.params[key] <= scale.high


class Stubborn(RandomSampler):
    """Proposes the same setting for ever."""

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.low


def test_a_proposal_on_top_of_a_trial_is_drawn_again_and_that_is_recorded(begin):
    config, study = begin("search.sampler=random")
    study.sampler.model = Stubborn()
    for _ in range(3):
        ask(study, config)
    first, second, third = study.get_trials()
    assert first.params == {"peak_lr": 5e-5, "warmup_fraction": 0.03}
    assert "moved" not in first.user_attrs
    assert nearest_pair(points(study, config)) >= SPACING
    for trial in (second, third):
        assert trial.user_attrs["moved"]["from"] == first.params
        assert 1 <= trial.user_attrs["moved"]["tries"] <= REDRAWS


def test_a_space_of_few_whole_numbers_ends_in_repetition_not_in_a_loop(begin):
    only_rank = ["space.peak_lr=1e-4", "space.warmup_fraction=0.05", "space.lora_r={low: 4, high: 6}"]
    config, study = begin("search.sampler=random", *only_rank)
    ranks = [ask(study, config).params["lora_r"] for _ in range(4)]
    assert sorted(set(ranks)) == [4, 5, 6]
    assert study.trials[-1].user_attrs["moved"]["tries"] == REDRAWS


def test_failed_trials_and_those_of_earlier_sweeps_may_be_proposed_again(load):
    config = load()
    space = distributions(config)
    params = {"peak_lr": 1e-4, "warmup_fraction": 0.05}
    trial = {"params": params, "distributions": space}
    own = create_trial(state=TrialState.COMPLETE, value=1.0, **trial)
    failed = create_trial(state=TrialState.FAIL, **trial)
    earlier = create_trial(state=TrialState.COMPLETE, value=1.0, user_attrs={WARM_START: "first"}, **trial)
    assert len(taken_points(UnitCube(space), [own])) == 1
    assert taken_points(UnitCube(space), [failed, earlier]) == []


@pytest.mark.parametrize("name", ["gp", "tpe"])
def test_the_first_trials_are_spread_over_the_space_and_then_the_model_takes_over(begin, name):
    config, study = begin(f"search.sampler={name}", "search.startup_trials=4")
    asked = []
    model = study.sampler.model.sample_relative
    study.sampler.model.sample_relative = lambda *args: asked.append(len(study.get_trials())) or model(*args)
    for value in (1.0, 2.0, 3.0, 4.0):
        study.tell(ask(study, config), value)
    first = np.array(points(study, config))
    assert not asked
    for column in first.T:  # scrambled Sobol points: one in each quarter of each range
        assert sorted(np.floor(4 * column)) == [0, 1, 2, 3]
    ask(study, config)
    assert len(asked) == 1


def test_a_given_setting_costs_no_proposal(begin):
    config, study = begin("search.sampler=gp")
    study.sampler.quasi_random.sample_relative = None
    study.enqueue_trial({"peak_lr": 1e-4, "warmup_fraction": 0.05})
    assert ask(study, config).params == {"peak_lr": 1e-4, "warmup_fraction": 0.05}


def test_the_gp_finds_a_basin_next_to_a_cliff(begin):
    """A tenth of the range holds settings a hundred times nearer to each other than to the diverged ones."""
    config, study = begin("search.sampler=gp", "space.warmup_fraction=0.05")
    cube = UnitCube(distributions(config))
    for _ in range(14):
        trial = ask(study, config)
        (x,) = cube.to_unit(trial.params)
        study.tell(trial, 1.0 if x > 0.75 else 0.02 * (x - 0.6) ** 2)
    chosen = [x for (x,) in points(study, config)[4:]]
    assert np.median(np.abs(np.array(chosen) - 0.6)) < 0.1


def test_proposals_are_the_same_for_the_same_seed_and_others_after_a_restart(begin):
    begun = [begin("search.sampler=gp", trials_done=done) for done in (0, 0, 3)]
    first, same, restarted = (ask(study, config).params for config, study in begun)
    assert first == same != restarted


def test_flattened_values_keep_their_order_and_the_lower_half():
    told = np.array([0.50, 0.51, 0.52, 0.53, 0.54, 0.9, 9.0])
    flat = flattened(told)
    assert list(flat[:5]) == list(told[:5])
    assert np.all(np.diff(flat) > 0)
    assert flat[-1] < 0.9
    assert list(flattened([2.0, 2.0])) == [2.0, 2.0]
    assert flattened([]).size == 0


@pytest.mark.parametrize(
    ("names", "trials", "levels"),
    [
        (["peak_lr"], 16, [16]),
        (["peak_lr", "warmup_fraction"], 16, [8, 2]),
        (["peak_lr", "warmup_fraction", "decay_floor"], 16, [4, 2, 2]),
        (["peak_lr", "warmup_fraction", "decay_floor"], 1, [1, 1, 1]),
        (["warmup_fraction", "decay_floor"], 16, [4, 4]),
    ],
)
def test_levels_of_a_grid(names, trials, levels):
    most = dict.fromkeys(names, math.inf)
    assert grid_levels(most, trials) == levels
    cells = grid(most, trials, np.random.default_rng(0))
    assert len({tuple(cell) for cell in cells}) == len(cells) == np.prod(levels)
    for column, count in zip(cells.T, levels, strict=True):  # each level in its own part of the range
        assert sorted(set(np.floor(count * column))) == list(range(count))


def test_the_grid_is_placed_by_the_seed_and_goes_on_after_a_restart(begin):
    grid_of_eight = ["search.sampler=grid", "search.trials=8"]
    config, study = begin(*grid_of_eight)
    whole = [ask(study, config).params for _ in range(8)]
    other, study = begin(*grid_of_eight, "seed=1")
    assert ask(study, other).params not in whole

    _, again = begin(*grid_of_eight, trials_done=3)
    space = distributions(config)
    again.add_trials([create_trial(value=1.0, params=params, distributions=space) for params in whole[:3]])
    rest = [ask(again, config).params for _ in range(5)]
    assert rest == whole[3:]


@pytest.mark.parametrize(
    ("overrides", "proposes"),
    [
        (["search.trials=1"], "grid"),
        (["search.trials=5"], "grid"),
        (["search.trials=6"], "gp"),
        ([], "gp"),
        (["search.trials=4", "search.sampler=gp"], "gp"),  # as every sweep.yaml of before states it
        (["search.trials=12", "search.sampler=grid"], "grid"),
        (["search.trials=4", "search.warm_start=[earlier]"], "gp"),  # a grid learns nothing from earlier trials
    ],
)
def test_few_trials_are_a_grid_unless_a_sampler_is_stated(load, overrides, proposes):
    config = load(*overrides)
    assert config.search.chosen_sampler == proposes
    assert type(make_sampler(config, 0).model) is KINDS[proposes]


@pytest.mark.parametrize("first", [5e-5, 5.1e-5, 3e-4, 9.9e-4, 1e-3])
@pytest.mark.parametrize("trials", [4, 5])
def test_few_trials_are_the_given_point_and_other_peak_lrs_at_equal_distances(begin, first, trials):
    config, study = begin(f"search.trials={trials}", "space.decay_floor={low: 2e-5, high: 4e-5}")
    point = {"peak_lr": first, "warmup_fraction": 0.05, "decay_floor": 3e-5}
    study.enqueue_trial(point)
    asked = [ask(study, config).params for _ in range(trials)]
    assert asked[0] == point
    logs = np.sort(np.log([params["peak_lr"] for params in asked]))
    assert np.diff(logs) == pytest.approx(np.log(1e-3 / 5e-5) / trials)
    assert logs[0] - np.log(5e-5) < np.diff(logs)[0] + 1e-9  # no gap at an end is wider than between two
    for name in ("warmup_fraction", "decay_floor"):  # so that the trials show the LR's effect alone
        assert [params[name] for params in asked] == pytest.approx([point[name]] * trials)


def test_a_resumed_grid_fills_the_gaps_between_the_trials_that_ended(begin):
    config, study = begin("search.trials=5")
    study.enqueue_trial({"peak_lr": 3e-4, "warmup_fraction": 0.05})
    whole = sorted(ask(study, config).params["peak_lr"] for _ in range(5))
    _, again = begin("search.trials=5", trials_done=3)
    ended = [study.trials[n].params for n in (2, 0, 4)]  # in the order of their ends
    again.add_trials([create_trial(value=1.0, params=params, distributions=distributions(config)) for params in ended])
    rest = [ask(again, config).params for _ in range(2)]
    assert sorted(params["peak_lr"] for params in [*ended, *rest]) == pytest.approx(whole)


DRAW = """
import json, sys, optuna
from sweeps.config.sweep_config import load_config
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import distributions
config = load_config(sys.argv[1], ["search.sampler=" + sys.argv[2], "space.decay_floor={low: 2e-5, high: 4e-5}"])
study = optuna.create_study(sampler=make_sampler(config, 0))
for value in range(6):  # after four tpe models
    study.tell(study.ask(fixed_distributions=distributions(config)), value)
print(json.dumps([trial.params for trial in study.trials]))
"""


@pytest.mark.usefixtures("load")  # writes small.yaml
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_proposals_do_not_depend_on_the_hash_seed(tmp_path, sampler):
    def proposals(hash_seed):
        command = [sys.executable, "-c", DRAW, str(tmp_path / "small.yaml"), sampler]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert proposals("0") == proposals("3")  # sets of the three names have other orders under these two
