"""Seed variance against closed forms and scipy; and that noise is not called a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from analysis.stats.seed_variance import PRIOR_SEED_SD, arrange, critical_value, standard_error, stated_seed_sd

BALANCED = ([name for name in "abc" for _ in range(4)], ["1", "2", "3", "4"] * 3)


def test_a_balanced_block_design_gives_plain_means_and_the_two_way_residual() -> None:
    values = np.random.default_rng(1).normal(size=(3, 4))
    found = arrange(*BALANCED)
    assert found.blocked
    np.testing.assert_allclose(found.weights @ values.ravel(), values.mean(axis=1))
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    sd = found.seed_sd(values.ravel())
    assert sd.residual == pytest.approx(math.sqrt((left**2).sum() / 6))
    assert sd.total == pytest.approx(math.sqrt(((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / 9))
    assert (sd.residual_df, sd.total_df, sd.source) == (6, 9, "replicates")


def test_with_two_settings_it_is_the_paired_t_test() -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 5))
    found = arrange(["a"] * 5 + ["b"] * 5, list("12345") * 2)
    values = np.concatenate([a, b])
    sd = found.seed_sd(values)
    contrast = found.weights[0] - found.weights[1]
    error = sd.residual * np.linalg.norm(contrast)
    reference = scipy.stats.ttest_rel(a, b)
    assert contrast @ values / error == pytest.approx(reference.statistic)
    assert sd.residual_df == reference.df
    low, high = reference.confidence_interval(0.95)
    assert critical_value(0.025, sd.residual_df) * error == pytest.approx((high - low) / 2)


def test_a_seed_that_was_hard_for_all_does_not_count_against_the_setting_that_met_it() -> None:
    settings, seeds = ["a", "a", "b", "b", "c"], ["1", "2", "1", "2", "2"]
    effect = {"a": 1.0, "b": 1.5, "c": 2.0, "1": 0.0, "2": 0.7}
    values = np.array([effect[x] + effect[s] for x, s in zip(settings, seeds, strict=True)])
    means = arrange(settings, seeds).weights @ values
    assert means - means[0] == pytest.approx([0.0, 0.5, 1.0])


def test_seeds_that_no_two_settings_share_leave_plain_means() -> None:
    found = arrange(["a", "a", "b", "b"], ["1", "2", "3", "4"])
    assert not found.blocked
    assert found.weights.tolist() == [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    sd = found.seed_sd(np.array([0.0, 2.0, 5.0, 9.0]))
    assert (sd.residual, sd.residual_df) == (pytest.approx(math.sqrt((2 + 8) / 2)), 2)


@pytest.mark.parametrize("settings", [[], ["a"], ["a", "b", "c"]])
def test_without_a_degree_of_freedom_the_stated_sd_counts_and_says_so(settings: list[str]) -> None:
    values = np.arange(float(len(settings)))
    found = arrange(settings, ["1"] * len(settings))
    assert found.seed_sd(values, 0.5) == stated_seed_sd(0.5)
    assert (stated_seed_sd(0.5).source, stated_seed_sd(0.5).residual) == ("config", 0.5)
    assert (found.seed_sd(values).source, found.seed_sd(values).residual) == ("prior", PRIOR_SEED_SD)
    assert math.isinf(stated_seed_sd(None).residual_df)


def test_one_replicated_setting_gives_its_whole_spread() -> None:
    sd = arrange(["a"] * 3, ["1", "2", "3"]).seed_sd(np.array([1.0, 2.0, 4.0]))
    assert (sd.total, sd.residual, sd.residual_df) == (pytest.approx(np.std([1, 2, 4], ddof=1)), sd.total, 2)


def test_the_prior_is_what_the_two_pairs_of_runs_give() -> None:
    pairs = [(2.4149, 2.3934), (2.0006, 1.9920)]
    assert math.sqrt(sum((x - y) ** 2 for x, y in pairs) / 4) == pytest.approx(PRIOR_SEED_SD, rel=0.05)


def test_joint_error_follows_welch() -> None:
    x, y = np.random.default_rng(3).normal(size=12), 3 * np.random.default_rng(4).normal(size=5)
    error, df = standard_error(x.std(ddof=1) / math.sqrt(12), 11, y.std(ddof=1) / math.sqrt(5), 4)
    reference = scipy.stats.ttest_ind(x, y, equal_var=False)
    assert (x.mean() - y.mean()) / error == pytest.approx(reference.statistic)
    assert df == pytest.approx(reference.df)
    assert standard_error(3.0, 10, 4.0, math.inf) == (pytest.approx(5.0), pytest.approx(625 / 8.1))
    assert standard_error(0.0, 10, 0.0, math.inf) == (0.0, math.inf)


def test_critical_values_are_those_of_t_and_of_the_normal() -> None:
    assert critical_value(0.025, math.inf) == pytest.approx(1.959964)
    assert critical_value(0.003, 6) == pytest.approx(scipy.stats.t.ppf(0.997, 6))


def test_a_statement_counts_as_four_degrees_of_freedom_beside_replicates() -> None:
    values = np.array([1.0, 2.0, 5.0, 5.5])  # two settings, two seeds: one residual degree of freedom
    found = arrange(["a", "a", "b", "b"], ["1", "2", "1", "2"])
    alone, both = found.seed_sd(values), found.seed_sd(values, 0.3)
    assert alone.residual**2 == pytest.approx(0.5**2 / 4)
    assert both.residual**2 == pytest.approx((0.5**2 / 4 + 4 * 0.3**2) / 5)
    assert (alone.residual_df, both.residual_df, both.total_df) == (1, 5, 6)
    assert (alone.single, both.single) == (alone.residual, max(0.3, both.residual))
    quiet = found.seed_sd(np.array([1.0, 2.0, 5.0, 6.0]))
    assert (quiet.residual, quiet.single) == (pytest.approx(0.0, abs=1e-12), PRIOR_SEED_SD)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        arrange(["a"], [])
