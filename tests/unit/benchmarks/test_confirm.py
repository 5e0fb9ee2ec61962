"""The replays of `benchmarks.confirm`: real seeds' noise, what is counted as an error, and the intervals."""

import copy
import math

import numpy as np
import pytest
import scipy.stats

from benchmarks.confirm.__main__ import targets
from benchmarks.confirm.replay import (
    ReplayNoise,
    after_search,
    candidates_of,
    confirm,
    covered,
    drop,
    is_separated,
    make_rules,
    named,
)
from benchmarks.confirm.seed_noise import CURVES, NEIGHBORS, SeedNoise
from benchmarks.intervals import clustered, coverage
from benchmarks.selection.replay import Case, Evaluated
from benchmarks.selection.surfaces import Surface, space

SILENT = SeedNoise(np.zeros((1, NEIGHBORS, 2)), np.zeros((1, 2)))


@pytest.fixture(scope="module")
def kept():
    return SeedNoise.read(CURVES)


@pytest.fixture
def case():
    curve = np.polyfit([-4.4, -3.5, -2.6], [0.6, 0.5, 0.6], 2)
    return Case(Surface("a r4", "a", curve, math.inf, 0.8), 7, space())


# --- noise


def test_luck_has_a_standard_deviation_of_one_in_what_seeds_do_not_share(kept):
    windows, settings, seeds = kept.residual.shape
    assert (settings, seeds) == (NEIGHBORS, 8)
    assert kept.residual.mean(axis=2) == pytest.approx(0.0, abs=1e-12)
    assert kept.residual.mean(axis=1) == pytest.approx(0.0, abs=1e-12)
    assert (kept.residual**2).sum(axis=(1, 2)) == pytest.approx(np.full(windows, (NEIGHBORS - 1) * seeds))


def test_what_a_seed_does_to_all_settings_is_no_residual():
    table = np.random.default_rng(0).normal(size=(5, 6))
    shifted = table + 3.0 * np.arange(6.0) + np.arange(5.0)[:, None]
    assert SeedNoise.of(shifted).residual == pytest.approx(SeedNoise.of(table).residual)
    assert not np.allclose(SeedNoise.of(shifted).shared, SeedNoise.of(table).shared)


@pytest.mark.parametrize("table", [np.zeros((NEIGHBORS - 1, 8)), np.full((8, 8), np.nan)])
def test_a_table_with_holes_or_too_few_settings_is_refused(table):
    with pytest.raises(ValueError, match="every seed"):
        SeedNoise.of(table)


@pytest.mark.parametrize("window", [0, 3])
def test_draws_of_rounds_and_of_searches_have_that_standard_deviation(kept, window):
    draw = np.random.default_rng(1)
    rounds = np.stack([kept.round(draw, window, NEIGHBORS) for _ in range(8000)])
    assert np.var(rounds[:, 0] - rounds[:, 1]) == pytest.approx(2.0, rel=0.06)
    assert rounds.mean(axis=0) == pytest.approx(np.zeros(NEIGHBORS), abs=0.06)
    assert np.std(kept.search(draw, window, 20_000)) == pytest.approx(1.0, rel=0.06)


def test_a_round_is_drawn_again_alike(kept):
    noise = ReplayNoise(kept, 0.5, 3)
    assert noise.round(2, 4).tolist() == noise.round(2, 4).tolist()
    assert noise.round(2, 4).tolist() != noise.round(3, 4).tolist()
    assert noise.search(8).tolist() == noise.search(8).tolist()


# --- one confirmation


def test_without_luck_the_best_is_named_equals_are_tied_and_intervals_that_miss_are_counted():
    noise, rules = ReplayNoise(SILENT, 1.0, 0), make_rules(1.0, stated=True)
    truth = {"x": 9.0, "y": 0.0, "z": 9.0}
    found = confirm(truth, ("x", "y", "z"), noise, rules)
    assert (found.winner, named(found), is_separated(found)) == ("y", "y", True)
    assert covered(found, truth) == [True, True]
    tied = confirm(dict.fromkeys(truth, 1.0), ("x", "y", "z"), noise, rules)
    assert (tied.winner, named(tied), is_separated(tied)) == (None, "x", False)
    found = confirm({"x": 0.0, "y": 0.1}, ("x", "y"), noise, rules)
    assert covered(found, {"x": 0.0, "y": 0.1}) == [True]
    assert covered(found, {"x": 0.0, "y": 99.0}) == [False]


def test_who_contends_follows_the_leaderboards_rule():
    scores = {"a": 0.0, "b": 3.0, "c": 3.3, "d": 9.0}
    reach = scipy.stats.t.ppf(1 - 0.05 / 12, 4) * math.sqrt(2)  # a stated sd counts as four degrees of freedom
    assert 3.3 < reach < 9.0
    assert candidates_of(scores, make_rules(1.0, stated=True)) == ("a", "b", "c")
    assert candidates_of(scores, make_rules(0.1, stated=True)) == ("a",)
    assert candidates_of(scores, make_rules(0.1, stated=False)) == ("a", "b", "c", "d")


def test_both_choices_cost_the_same_steps(case):
    rules = make_rules(0.01, stated=False)
    true = [0.52, 0.51, 0.80, 0.55]  # the third diverged: told low by mistake it still can't contend
    seen = [Evaluated(told, one) for told, one in zip([0.50, 0.51, 0.40, 0.56], true, strict=True)]
    seen += [Evaluated(0.60, 0.56)] * 8 + [Evaluated(0.30, 0.57)] * 20
    found = after_search(case, seen, 4, ReplayNoise(SILENT, 0.01, 0), rules)
    assert found.spent < 12
    assert found.confirmed == pytest.approx((0.51 - 0.5) / 0.01, rel=1e-3)
    steps = 4 + found.spent
    lowest = min(seen[:steps], key=lambda one: one.noisy)
    assert found.single == pytest.approx((lowest.true - 0.5) / 0.01, rel=1e-3)


def test_the_drop_is_the_median_above_the_minimum(case):
    depth = 0.1 / 0.9**2  # of the parabola, per squared decade
    low, high = np.log10([case.config.space.ends()["peak_lr"][0], case.config.space.ends()["peak_lr"][1]])
    points = np.linspace(low, high, 10_001)
    assert drop(case) == pytest.approx(float(np.median(depth * (points + 3.5) ** 2)), rel=0.02)


# --- figures


def test_coverage_counts_intervals_and_clustered_means_resample_clusters():
    assert coverage([[True, True], [], [False]])["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert coverage([[], []]) is None
    assert clustered(np.array([1.0, -1.0, 1.0, -1.0]), list("aabb")) == {"mean": 0.0, "lower": 0.0, "upper": 0.0}
    apart = clustered(np.array([1.0, 1.0, -1.0, -1.0]), list("aabb"))
    assert (apart["lower"], apart["upper"]) == (-1.0, 1.0)


def share(rate):
    return {"value": rate, "lower": 0.0, "upper": 1.0}


GOOD = {
    "null": {"false_separation": share(0.05), "coverage": share(0.9)},
    "gap": {"2_contenders": {"ties": share(0.2), "coverage": share(0.98)}},
    "surfaces": {"all": {"error_difference": {"mean": 0.0}, "coverage": None}},
}


@pytest.mark.parametrize(
    ("place", "value", "missed"),
    [
        (None, None, set()),
        (("null", "false_separation"), share(0.06), {"false_separation"}),
        (("gap", "2_contenders", "ties"), share(0.21), {"ties_at_a_gap_of_4_sds"}),
        (("surfaces", "all", "error_difference"), {"mean": 0.01}, {"error_difference"}),
        (("null", "coverage"), share(0.89), {"coverage"}),
        (("gap", "2_contenders", "coverage"), share(0.99), {"coverage"}),
    ],
)
def test_each_target_can_be_missed(place, value, missed):
    own = copy.deepcopy(GOOD)
    if place:
        part = own
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
    found = targets({"seed_sd_unknown": own})
    assert {name for name, target in found.items() if not target["met"]} == missed
