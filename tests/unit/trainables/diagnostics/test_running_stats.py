"""Running sums against numpy and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from trainables.diagnostics.curve_state import fit_beta
from trainables.diagnostics.running_stats import Sums, difference, difference_to, fit_line


def sums(times, values):
    found = Sums()
    for t, y in zip(times, values, strict=True):
        found.add(t, y)
    return found


@pytest.fixture
def points():
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0.2, 0.6, 90))
    return t, 2.0 + 1.5 * t + rng.gamma(2.0, 0.4, 90)


def test_a_line_has_scipys_slope_and_the_error_hc3(points):
    t, y = points
    line = fit_line([sums([a], [b]) for a, b in zip(t, y, strict=True)])
    expected = stats.linregress(t, y)
    design = np.stack([np.ones_like(t), t], 1)
    inverse = np.linalg.inv(design.T @ design)
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    left = y - expected.intercept - expected.slope * t
    error = np.sqrt((inverse @ (design.T * (left / (1 - leverage)) ** 2) @ design @ inverse)[1, 1])
    assert line.slope == pytest.approx(expected.slope)
    assert line.t == pytest.approx(expected.slope / error)
    assert line.rise_p == pytest.approx(stats.t.sf(expected.slope / error, 88))


def test_parts_of_a_line_say_nearly_what_single_values_do(points):
    t, y = points
    single = fit_line([sums([a], [b]) for a, b in zip(t, y, strict=True)])
    parts = fit_line([sums(t[i : i + 9], y[i : i + 9]) for i in range(0, 90, 9)] + [Sums()])
    assert parts.slope == pytest.approx(single.slope)
    assert parts.t == pytest.approx(single.t, rel=0.1)


def test_sums_of_parts_are_those_of_the_whole(points):
    t, y = points
    parts = [sums(t[i::4], y[i::4]) for i in range(4)]
    assert Sums.total(parts).mean == pytest.approx(np.mean(y))
    assert Sums.total(parts).variance == pytest.approx(np.var(y, ddof=1))


def test_values_on_a_line_leave_no_doubt():
    assert fit_line([sums([0.0, 0.25, 0.5], [1.0, 2.0, 3.0])]) == (4.0, math.inf, 0.0)
    assert fit_line([sums([0.0, 0.25, 0.5], [1.0, 1.0, 1.0])]) == (0.0, 0.0, 0.5)


def test_differences_are_those_of_scipy(points):
    t, y = points
    first, second = sums(t[:30], y[:30]), sums(t[30:], y[30:])
    found, expected = difference(first, second), stats.ttest_ind(y[:30], y[30:], equal_var=False, alternative="greater")
    assert found.value == pytest.approx(y[:30].mean() - y[30:].mean())
    assert found.df == pytest.approx(expected.df)
    assert found.above_zero_p == pytest.approx(expected.pvalue)
    low = expected.confidence_interval(0.995).low
    assert found.value - found.bound(0.995) == pytest.approx(low)
    one = difference_to(2.5, second)
    assert one.above_zero_p == pytest.approx(stats.ttest_1samp(y[30:], 2.5, alternative="less").pvalue)


def test_beta_is_the_slope_within_0_and_1():
    rng = np.random.default_rng(0)
    base = rng.gamma(4, 0.7, 200)
    loss = 0.4 * base + rng.normal(0, 0.3, 200)
    pairs = np.stack([loss, base], 1).tolist()
    assert fit_beta(pairs) == pytest.approx(stats.linregress(base, loss).slope)
    assert fit_beta([[-y, b] for y, b in pairs]) == 0.0
    assert fit_beta([[5 * y, b] for y, b in pairs]) == 1.0
    assert fit_beta(pairs[:15]) == 1.0
    assert fit_beta([[y, 2.0] for y, _ in pairs]) == 0.0
