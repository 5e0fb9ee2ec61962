import math

import numpy as np
import pytest

from trainables.data.independence.power import ASSUMED_SD, assumed_power, smallest_share_difference


@pytest.mark.parametrize("clusters", [2, 20, 128, 200])
def test_assumed_difference_is_2_8_standard_errors(clusters):
    """1.959964 + 0.841621, the normal quantiles of 0.975 and 0.8."""
    found = assumed_power(clusters)
    assert found.smallest_nll_difference == pytest.approx((1.959964 + 0.841621) * 0.27 / math.sqrt(clusters), rel=1e-6)
    assert found.clusters == clusters
    assert str(ASSUMED_SD) in found.assumption


@pytest.mark.parametrize("clusters", [0, 1])
def test_one_context_says_nothing(clusters):
    assert assumed_power(clusters).smallest_nll_difference is None


def test_four_times_the_contexts_halve_the_difference():
    few, many = assumed_power(25).smallest_nll_difference, assumed_power(100).smallest_nll_difference
    assert few == pytest.approx(2 * many)


def test_a_difference_of_that_size_shows_in_80_of_100_cases():
    """A z-test of the cluster means, 4,000 times."""
    found = assumed_power(60).smallest_nll_difference
    means = np.random.default_rng(0).normal(found, ASSUMED_SD, (4000, 60))
    z = means.mean(axis=1) / (means.std(axis=1, ddof=1) / math.sqrt(60))
    assert np.mean(z > 1.959964) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("discordant", "clusters", "points"), [(0.12, 1046, 3), (0.17, 1482, 3), (0.12, 377, 5)])
def test_shares_need_as_many_items_as_mcnemars_test(discordant, clusters, points):
    """(1.96 + 0.84)^2 * discordant / difference^2 items."""
    shown = smallest_share_difference({"a": clusters}, {"a": 1.0}, discordant)
    assert 100 * shown == pytest.approx(points, rel=1e-3)
    halves = {"a": clusters // 2, "b": clusters - clusters // 2}
    assert smallest_share_difference(halves, {"a": 2.0, "b": 2.0}, discordant) == pytest.approx(shown, rel=1e-3)
