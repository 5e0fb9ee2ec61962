"""The surfaces of `benchmarks.selection`, and how a replay is judged."""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import optuna
import pytest

from benchmarks.intervals import ratio_of_means
from benchmarks.selection.__main__ import LEVELS, judged
from benchmarks.selection.grid_surface import GRID, Grid, GridSurface
from benchmarks.selection.grid_surface import space as grid_space
from benchmarks.selection.replay import PLANNED, UNPLANNED, Case, Evaluated, by_model, draw_noise, lowest, regret
from benchmarks.selection.surfaces import BASE_ABOVE_BEST, JITTER, Surface, halves, jittered, measured_surfaces, space

LRS = (4e-5, 1e-4, 3e-4, 1e-3)


def parabola(lr):
    return 0.5 + 0.02 * (math.log10(lr) + 3.5) ** 2


@pytest.fixture
def surfaces(tmp_path):
    def measure(rows):
        path = tmp_path / "table.jsonl"
        keys = ("model", "lora_rank", "learning_rate", "test_nll")
        path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
        return measured_surfaces(path)

    return measure


def test_a_parabola_is_found_again_even_moved_and_the_missing_lr_is_a_cliff(surfaces):
    (surface,) = surfaces([("a", 4, lr, parabola(lr)) for lr in LRS])
    assert surface.loss({"peak_lr": 2e-4}) == pytest.approx(parabola(2e-4))
    assert 10**surface.cliff == pytest.approx(math.sqrt(1e-3 * 3e-3))
    assert surface.best() == pytest.approx(0.5, abs=1e-6)
    beyond = {"peak_lr": 2e-3}
    assert surface.diverges(beyond)
    assert surface.loss(beyond) == min(parabola(lr) for lr in LRS) + BASE_ABOVE_BEST
    moved = surface.moved(0.1)
    assert moved.loss({"peak_lr": 2e-4 * 10**0.1}) == pytest.approx(surface.loss({"peak_lr": 2e-4}))
    assert [abs(one.shift) <= JITTER for one in jittered([surface], 20)] == [True] * 20


def test_a_diverged_point_is_not_fitted_and_few_lrs_make_no_surface(surfaces):
    rows = [("a", 4, lr, parabola(lr)) for lr in LRS]
    (surface,) = surfaces([*rows, ("a", 4, 3e-3, 1.7), *(("b", 4, lr, 0.5) for lr in LRS[:3])])
    assert surface.name == "a r4"
    assert surface.loss({"peak_lr": 2e-4}) == pytest.approx(parabola(2e-4))
    assert surface.diverges({"peak_lr": 3e-3})


def test_five_lrs_make_a_cubic_that_need_not_go_through_them(surfaces):
    noise = dict(zip((*LRS, 3e-3), (1, -2, 3, -2, 1), strict=True))
    (surface,) = surfaces([("a", 4, lr, parabola(lr) + 1e-3 * bump) for lr, bump in noise.items()])
    assert len(surface.curve) == 4
    assert all(abs(surface.loss({"peak_lr": lr}) - parabola(lr) - 1e-3 * bump) > 1e-5 for lr, bump in noise.items())


def test_models_that_tune_do_not_judge(surfaces):
    found = surfaces([(model, rank, lr, parabola(lr)) for model in "abcde" for rank in (4, 8) for lr in LRS])
    tuning, judging = ({surface.group for surface in half} for half in halves(found))
    assert tuning | judging == set("abcde")
    assert not tuning & judging


@pytest.fixture
def case():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    curve = np.polyfit(*zip(*((math.log10(lr), parabola(lr)) for lr in LRS), strict=True), 2)
    return Case(Surface("a r4", "a", curve, math.log10(1.7e-3), 0.8), 7, space())


@pytest.mark.parametrize("name", [*UNPLANNED, *PLANNED])
def test_every_method_sees_the_same_noise_and_finds_something(case, name):
    seen = {**UNPLANNED, **PLANNED}[name](case, draw_noise(case, 0.001, 8), 1)
    assert len(seen) == 8
    noise = [one.noisy - one.true for one in seen]
    assert noise == pytest.approx(
        [added if one.true < 0.8 else 0.0 for added, one in zip(draw_noise(case, 0.001, 8), seen, strict=True)]
    )
    assert 0.0 <= regret(case, seen) < 0.05


def test_a_longer_replay_starts_with_the_shorter_one_and_lanes_leave_no_trial_out(case):
    short = UNPLANNED["tpe_default"](case, draw_noise(case, 0.001, 6), 1)
    assert UNPLANNED["tpe_default"](case, draw_noise(case, 0.001, 12), 1)[:6] == short
    assert len(UNPLANNED["tpe_default"](case, draw_noise(case, 0.001, 10), 4)) == 10


def test_the_lowest_seen_is_chosen_and_its_true_value_counts(case):
    assert regret(case, [Evaluated(0.52, 0.50), Evaluated(0.51, 0.53)]) == pytest.approx(0.03, abs=1e-6)


def test_ratios_and_their_interval():
    ours = np.array([1.0, 2.0, 3.0, 4.0])
    assert ratio_of_means(ours, ours, list("abcd")) == {"ratio": 1.0, "lower": 1.0, "upper": 1.0}
    assert ratio_of_means(ours, 2 * ours, list("aabb")) == {"ratio": 0.5, "lower": 0.5, "upper": 0.5}
    found = ratio_of_means(ours, np.array([4.0, 1.0, 5.0, 2.0]), list("abcd"))
    assert found["lower"] < found["ratio"] == round(10 / 12, 4) < found["upper"]


def test_the_model_names_the_middle_of_a_smooth_curve_and_no_diverged_trial(case):
    lrs = np.geomspace(4e-5, 1.6e-3, 12)
    rest = {"warmup_fraction": 0.05, "decay_floor": 4.5e-5}
    seen = [Evaluated(parabola(lr), parabola(lr), {"peak_lr": lr, **rest}) for lr in lrs.tolist()]
    lucky = seen[2]
    seen[2] = Evaluated(parabola(10**-3.5) - 1e-4, lucky.true, lucky.params)  # luck lets it look best
    seen.append(Evaluated(0.1, 0.8, {"peak_lr": 2.5e-3, **rest}, complete=False))
    assert lowest(case, seen[:-1]) == seen[2]
    assert by_model(case, seen).true == min(one.true for one in seen)
    assert by_model(case, seen[:4]) == lowest(case, seen[:4])  # too few for a model


def test_noise_that_grows_is_as_stated_in_the_middle_of_the_lrs(case):
    steep = replace(case, growth=1.0)
    plain, grown = (PLANNED["offset_grid"](one, np.full(8, 1e-3), 1) for one in (case, steep))
    for one, other in zip(plain, grown, strict=True):
        if one.complete:
            factor = one.params["peak_lr"] / math.sqrt(4e-5 * 3e-3)
            assert other.noisy - other.true == pytest.approx(1e-3 * factor)


def test_targets_are_judged_at_sixteen_trials(case):
    worse, better = (np.full((1, len(LEVELS)), value) for value in (1.0, 0.59))
    result = judged([case], {"ours": {16: better}, "tpe_default": {16: worse}, "offset_grid": {16: better / 2}})
    assert {name: target["met"] for name, target in result["targets"].items()} == {
        "tpe_default, 16 trials": True,
        "offset_grid, 16 trials": False,
    }


def test_the_trained_grid_is_a_surface():
    grid = Grid.read(GRID)
    surface = GridSurface(grid, 0.0, 0)
    ends = grid_space(grid)
    names = ("peak_lr", "warmup_fraction", "decay_floor")
    points = itertools.product(grid.lrs, grid.warmups, grid.floors)
    cells = [surface.loss(dict(zip(names, point, strict=True))) for point in points]
    error = np.array(cells) - grid.objective.ravel()
    assert np.sqrt(np.mean(error**2)) < 0.25 * np.std(grid.objective)  # smooth, and like the cells
    assert surface.best() <= min(cells) + 1e-9
    assert grid.base > max(cells) > surface.best()
    top = {"peak_lr": ends["peak_lr"]["high"], "warmup_fraction": 0.05, "decay_floor": ends["decay_floor"]["low"]}
    assert math.isfinite(surface.loss(top))
