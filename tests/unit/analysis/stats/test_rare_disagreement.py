"""Few clusters that disagree: the exact test, and a standard error that is never 0."""

from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from analysis.stats.bootstrap import make_design, objective
from analysis.stats.rare_disagreement import FEW, cluster_parts, few_disagree, rare_error, sign_flip_p


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 0), (6, 0), (7, 3), (12, 12), (20, 4)])
def test_single_items_give_mcnemars_exact_test(won, lost):
    parts = np.array([1.0] * won + [-1.0] * lost + [0.0] * 9) / 40
    wanted = scipy.stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_flip_p(parts) == pytest.approx(wanted, rel=1e-9)


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_clusters_give_the_share_of_all_flips_that_go_as_far(values):
    parts = np.array(values, dtype=float)
    sums = [abs(np.dot(signs, parts)) for signs in product((-1, 1), repeat=len(parts))]
    assert sign_flip_p(parts) == pytest.approx(np.mean(np.array(sums) >= abs(parts.sum()) - 1e-9))


def test_parts_add_up_to_the_weighted_mean_of_areas():
    design = make_design(["a"] * 4 + ["b"] * 2, ["x", "x", "y", "z", "x", "y"], {"a": 3, "b": 1})
    differences = np.array([1.0, 0.0, -1.0, 0.0, 1.0, 1.0])
    parts, sizes = cluster_parts(design, differences)
    assert parts.sum() == pytest.approx(objective(design, differences[:, None])[0])
    assert parts == pytest.approx([3 / 16, -3 / 16, 0, 1 / 8, 1 / 8])
    assert sizes == pytest.approx([3 / 8, 3 / 16, 3 / 16, 1 / 8, 1 / 8])


@pytest.mark.parametrize(("discordant", "told"), [(0, False), (4, False), (5, False), (6, True), (9, True)])
def test_the_error_agrees_with_the_exact_test_where_all_disagree_one_way(discordant, told):
    parts, sizes = np.array([1.0] * discordant + [0.0] * (100 - discordant)) / 100, np.full(100, 0.01)
    assert bool(parts.sum() > 1.96 * rare_error(parts, sizes)) is told
    assert (sign_flip_p(parts) <= 0.05) is told


def test_many_that_disagree_are_left_to_the_bootstrap():
    assert few_disagree(np.ones(FEW - 1))
    assert not few_disagree(np.ones(FEW))
    with pytest.raises(ValueError, match="fewer than 25"):
        sign_flip_p(np.ones(FEW))
