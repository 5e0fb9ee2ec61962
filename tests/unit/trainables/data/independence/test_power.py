import math

import numpy as np
import pytest

from trainables.data.independence.power import ASSUMED_SD, assumed_power, measured_power


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
    assert measured_power([0.1, 0.2][:clusters], ["a"] * clusters).smallest_nll_difference is None


def test_four_times_the_contexts_halve_the_difference():
    few, many = assumed_power(25).smallest_nll_difference, assumed_power(100).smallest_nll_difference
    assert few == pytest.approx(2 * many)


def test_measured_single_items_have_the_usual_standard_error():
    values = np.random.default_rng(0).normal(0.1, 0.3, 50)
    found = measured_power(values, [str(i) for i in range(50)])
    assert found.smallest_nll_difference == pytest.approx(2.801585 * values.std(ddof=1) / math.sqrt(50), rel=1e-6)
    assert found.clusters == 50


def test_items_of_one_context_that_agree_count_as_one():
    values = np.random.default_rng(0).normal(0.0, 0.3, 40)
    alone = measured_power(values, [str(i) for i in range(40)])
    tripled = measured_power(np.repeat(values, 3), [str(i) for i in range(40) for _ in range(3)])
    assert tripled.smallest_nll_difference == pytest.approx(alone.smallest_nll_difference)
    assert tripled.clusters == 40


def test_a_difference_of_that_size_shows_in_80_of_100_cases():
    """Clusters of three with a shared part; a z-test of the cluster means, 2,000 times."""
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(60) for _ in range(3)]

    def differences(size):
        return rng.normal(0, 0.2, (size, 60, 1)) + rng.normal(0, 0.2, (size, 60, 3))

    smallest = measured_power(differences(100).reshape(-1), [f"{i}-{n}" for i in range(100) for n in names])
    shift = smallest.smallest_nll_difference * 10  # 6,000 clusters have a tenth of the error of 60
    means = differences(2000).mean(axis=2) + shift
    z = means.mean(axis=1) / (means.std(axis=1, ddof=1) / math.sqrt(60))
    assert np.mean(z > 1.959964) == pytest.approx(0.8, abs=0.03)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one length"):
        measured_power([0.1], ["a", "b"])
