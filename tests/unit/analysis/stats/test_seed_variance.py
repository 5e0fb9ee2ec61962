"""Seed variance against closed forms, numpy's least squares and scipy; what a stated sd counts for."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.seed_variance import (
    STATED_DF,
    JointError,
    arrange,
    critical_value,
)
from sweeps.confirm.replicates import Replicate, fit_replicates

BALANCED = ([name for name in "abc" for _ in range(4)], ["1", "2", "3", "4"] * 3)


def test_a_balanced_block_design_gives_plain_means_and_the_two_way_residual():
    values = np.random.default_rng(1).normal(size=(3, 4))
    found = arrange(*BALANCED)
    assert found.blocked
    np.testing.assert_allclose(found.weights @ values.ravel(), values.mean(axis=1))
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    sd = found.seed_sd(values.ravel())
    assert sd.residual == pytest.approx(math.sqrt((left**2).sum() / 6))
    assert sd.total == pytest.approx(math.sqrt(((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / 9))
    assert (sd.residual_df, sd.total_df, sd.source) == (6, 9, "replicates")


@settings(deadline=None)
@given(cells=st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("1234")), min_size=1), seed=st.integers(0, 99))
def test_any_connected_design_has_the_residual_of_numpys_least_squares(cells, seed):
    rows = sorted(cells)
    values = np.random.default_rng(seed).normal(size=len(rows))
    names = sorted({name for cell in rows for name in cell})
    design = np.array([[float(name in cell) for name in names] for cell in rows])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    found = arrange([cell[0] for cell in rows], [cell[1] for cell in rows])
    sd, df = found.seed_sd(values), len(rows) - rank
    assert found.blocked == (rank == len(names) - 1)
    if found.blocked:
        assert sd.residual_df == df
        expected = math.sqrt(((values - design @ solution) ** 2).sum() / df) if df else None
        assert sd.residual == (pytest.approx(expected) if df else None)


def test_with_two_settings_it_is_the_paired_t_test():
    a, b = np.random.default_rng(2).normal(size=(2, 5))
    found = arrange(["a"] * 5 + ["b"] * 5, list("12345") * 2)
    values = np.concatenate([a, b])
    sd = found.seed_sd(values)
    contrast = found.weights[0] - found.weights[1]
    assert sd.residual is not None
    error = sd.residual * np.linalg.norm(contrast)
    reference = scipy.stats.ttest_rel(a, b)
    assert contrast @ values / error == pytest.approx(reference.statistic)
    assert sd.residual_df == reference.df
    low, high = reference.confidence_interval(0.95)
    assert critical_value(0.025, sd.residual_df) * error == pytest.approx((high - low) / 2)


def test_a_seed_that_was_hard_for_all_does_not_count_against_the_setting_that_met_it():
    settings, seeds = ["a", "a", "b", "b", "c"], ["1", "2", "1", "2", "2"]
    effect = {"a": 1.0, "b": 1.5, "c": 2.0, "1": 0.0, "2": 0.7}
    values = np.array([effect[x] + effect[s] for x, s in zip(settings, seeds, strict=True)])
    means = arrange(settings, seeds).weights @ values
    assert means - means[0] == pytest.approx([0.0, 0.5, 1.0])


def test_seeds_that_no_two_settings_share_leave_plain_means():
    found = arrange(["a", "a", "b", "b"], ["1", "2", "3", "4"])
    assert not found.blocked
    assert found.weights.tolist() == [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    sd = found.seed_sd(np.array([0.0, 2.0, 5.0, 9.0]))
    assert (sd.residual, sd.residual_df) == (pytest.approx(math.sqrt((2 + 8) / 2)), 2)


# One residual degree of freedom, and none: with it the sum of squares of x = [[1, 2], [5, 5.5]] is 0.5²/4.
TWO_BY_TWO = {("a", 1): 1.0, ("a", 2): 2.0, ("b", 1): 5.0, ("b", 2): 5.5}
ONE_ROUND = {("a", 1): 1.0, ("b", 1): 2.0}
ONE_SETTING = {("a", 1): 1.0, ("a", 2): 2.0, ("a", 3): 4.0}
CHAIN = {("a", 1): 1.0, ("a", 2): 2.0, ("b", 1): 5.0}


def measured(cells, stated):
    found = arrange([name for name, _ in cells], [str(seed) for _, seed in cells])
    return found, found.seed_sd(np.array(list(cells.values())), stated)


@pytest.mark.parametrize(
    ("cells", "stated", "residual", "df", "source"),
    [
        (TWO_BY_TWO, None, math.sqrt(0.5**2 / 4), 1, "replicates"),
        (TWO_BY_TWO, 0.3, math.sqrt((0.5**2 / 4 + 4 * 0.3**2) / 5), 5, "replicates"),
        ({}, None, None, 0, "unknown"),
        ({("a", 1): 1.0}, None, None, 0, "unknown"),
        (ONE_ROUND, None, None, 0, "unknown"),
        (ONE_SETTING, None, None, 0, "replicates"),  # the leaderboard took the whole spread
        (CHAIN, None, None, 0, "replicates"),
        ({}, 0.3, 0.3, STATED_DF, "config"),  # the leaderboard took it as known
        (ONE_ROUND, 0.3, 0.3, STATED_DF, "config"),
        (ONE_SETTING, 0.3, 0.3, STATED_DF, "replicates"),
        (CHAIN, 0.3, 0.3, STATED_DF, "replicates"),
    ],
)
def test_one_rule_for_leaderboard_and_confirmation(cells, stated, residual, df, source):
    _, sd = measured(cells, stated)
    assert sd.residual == (None if residual is None else pytest.approx(residual))
    assert (sd.residual_df, sd.source) == (df, source)
    fit = fit_replicates([Replicate(*cell, value) for cell, value in cells.items()], stated)
    assert (fit.sd, fit.df) == (sd.residual, sd.residual_df)
    assert (fit.half_width(0.025, 2) is None) == (residual is None)


@pytest.mark.parametrize(
    ("cells", "stated", "single", "df"),
    [
        ({}, None, None, 0),
        ({}, 0.3, 0.3, STATED_DF),
        (TWO_BY_TWO, None, 0.25, 1),
        (TWO_BY_TWO, 0.3, math.sqrt((0.5**2 / 4 + 4 * 0.3**2) / 5), 5),
        (TWO_BY_TWO, 0.01, math.sqrt((0.5**2 / 4 + 4 * 0.01**2) / 5), 5),
        (ONE_ROUND, None, None, 0),
        (ONE_SETTING, None, np.std([1, 2, 4], ddof=1), 2),  # an upper bound of the residual
        (ONE_SETTING, 0.01, math.sqrt((2 * np.var([1, 2, 4], ddof=1) + 4 * 0.01**2) / 6), 6),
    ],
)
def test_search_trials_are_compared_by_what_was_measured_or_stated(cells, stated, single, df):
    found, sd = measured(cells, stated)
    assert (sd.single, sd.single_df) == (None if single is None else pytest.approx(single), df)
    if found.residual_df == 0:  # the upper bound
        assert (sd.single, sd.single_df) == (sd.total, sd.total_df)


def test_joint_error_follows_welch_and_critical_values_are_those_of_t():
    x, y = np.random.default_rng(3).normal(size=12), 3 * np.random.default_rng(4).normal(size=5)
    error = JointError(x.std(ddof=1) / math.sqrt(12), 11, y.std(ddof=1) / math.sqrt(5), 4)
    reference = scipy.stats.ttest_ind(x, y, equal_var=False)
    assert (x.mean() - y.mean()) / error.total == pytest.approx(reference.statistic)
    assert error.df == pytest.approx(reference.df)
    assert JointError(3.0, 10, 4.0, math.inf).df == pytest.approx(625 / 8.1)
    assert JointError(0.0, 10, 0.0, math.inf).df == math.inf
    assert JointError(0.3, 10, 0.0, 1).reach(0.025) == pytest.approx(0.3 * scipy.stats.t.ppf(0.975, 10))
    assert critical_value(0.025, math.inf) == pytest.approx(1.959964)
    assert critical_value(0.003, 6) == pytest.approx(scipy.stats.t.ppf(0.997, 6))


@pytest.mark.parametrize("seeds_over_items", [0.0, 0.3, 1.0, 5.0, 100.0])
@pytest.mark.parametrize("seed_df", [1, 2, 8])
def test_an_interval_over_items_and_seeds_misses_no_more_often_than_it_says(seeds_over_items, seed_df):
    draw, sims, tail, item_df = np.random.default_rng([seed_df, round(10 * seeds_over_items)]), 100_000, 0.025, 200
    differences = draw.normal(0, math.hypot(1, seeds_over_items), sims)
    items = np.sqrt(draw.chisquare(item_df, sims) / item_df)
    seeds = seeds_over_items * np.sqrt(draw.chisquare(seed_df, sims) / seed_df)
    item_part, seed_part = (JointError(*parts).reach(tail) for parts in ((1, item_df, 0, 1), (0, 1, 1, seed_df)))
    missed = np.mean(np.abs(differences) > np.hypot(item_part * items, seed_part * seeds))
    assert missed <= 2 * tail + 0.0025  # 3.6 standard errors of the simulation
    assert JointError(2.0, item_df, 3.0, seed_df).reach(tail) == pytest.approx(np.hypot(2 * item_part, 3 * seed_part))


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="one length"):
        arrange(["a"], [])
