"""Choices and hyper-parameters that apply under one choice only: distances, proposals, what a trial uses."""

import itertools

import numpy as np
import optuna
import pytest

from sweeps.search.grid import grid_levels
from sweeps.search.samplers import make_sampler
from sweeps.search.search_space import SPACING, UnitCube, distributions, holds

CHOICES = [
    "space.schedule_shape={choices: [linear, wsd]}",
    "space.decay_fraction={low: 0.1, high: 0.5}",
    "space.target_modules={choices: [all-linear, [q_proj, v_proj], [o_proj]]}",
]
AT = {"peak_lr": 1e-4, "warmup_fraction": 0.05, "schedule_shape": "wsd", "decay_fraction": 0.2}
AT["target_modules"] = "all-linear"


@pytest.fixture
def cube(load):
    return UnitCube(distributions(load(*CHOICES)))


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ({}, {}, 0.0),
        ({}, {"target_modules": "q_proj,v_proj"}, 1.0),
        ({}, {"target_modules": "o_proj"}, 1.0),  # no choice is nearer than another
        ({}, {"decay_fraction": 0.3}, 0.25),
        ({"schedule_shape": "linear"}, {"schedule_shape": "linear", "decay_fraction": 0.5}, 0.0),  # it does nothing
        ({"target_modules": "o_proj"}, {"decay_fraction": 0.3}, np.hypot(1.0, 0.25)),
    ],
)
def test_distance_between_settings(cube, one, other, distance):
    points = [cube.to_unit({**AT, **changed}) for changed in (one, other)]
    assert cube.nearest(points[0], [points[1]]) == pytest.approx(distance)


def test_every_choice_comes_back_from_its_point(cube):
    for shape, modules in itertools.product(("linear", "wsd"), ("all-linear", "q_proj,v_proj", "o_proj")):
        setting = cube.settled({**AT, "schedule_shape": shape, "target_modules": modules})
        assert cube.from_unit(cube.to_unit(setting)) == pytest.approx(setting)


@pytest.mark.parametrize("name", ["gp", "tpe", "cmaes", "random", "grid", "qmc"])
def test_every_sampler_proposes_choices_and_keeps_apart(load, name):
    if name == "cmaes":
        pytest.importorskip("cmaes")
    config = load(f"search.sampler={name}", "search.trials=12", *CHOICES)
    cube, study = UnitCube(distributions(config)), optuna.create_study(sampler=make_sampler(config, 0))
    for _ in range(12):
        trial = study.ask(fixed_distributions=cube.space)
        study.tell(trial, 2.0 + 0.1 * trial.params["schedule_shape"].count("wsd"))
    for trial in study.trials:
        assert all(holds(scale, trial.params[key]) for key, scale in cube.space.items())
        if trial.params["schedule_shape"] == "linear":
            assert trial.params["decay_fraction"] == pytest.approx(0.3)
    points = [cube.to_unit(trial.params) for trial in study.trials]
    assert all(cube.nearest(one, points[:n]) >= SPACING for n, one in enumerate(points) if n)


def test_the_gp_stays_with_the_better_choice(load):
    config = load("search.sampler=gp", "space.target_modules={choices: [all-linear, [q_proj], [o_proj]]}")
    space, study = distributions(config), optuna.create_study(sampler=make_sampler(config, 0))
    for _ in range(14):
        trial = study.ask(fixed_distributions=space)
        far = abs(np.log(trial.params["peak_lr"] / 2e-4))
        study.tell(trial, 2.0 + 0.1 * far + 0.3 * (trial.params["target_modules"] != "q_proj"))
    chosen = [trial.params["target_modules"] for trial in study.trials[-6:]]
    assert chosen.count("q_proj") >= 4


@pytest.mark.parametrize(
    ("most", "trials", "levels"),
    [
        ({"peak_lr": np.inf, "schedule_shape": 2}, 16, [8, 2]),
        ({"schedule_shape": 2, "warmup_fraction": np.inf}, 16, [2, 8]),
        ({"schedule_shape": 2, "lora_r": 3}, 16, [2, 3]),  # never more levels than values
        ({"peak_lr": np.inf, "schedule_shape": 2, "decay_floor": np.inf}, 5, [5, 1, 1]),
    ],
)
def test_a_grid_has_no_more_levels_than_values(most, trials, levels):
    assert grid_levels(most, trials) == levels
