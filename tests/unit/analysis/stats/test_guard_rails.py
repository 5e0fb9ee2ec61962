"""Guard-rails against scipy's paired t-test and Holm's own example; how often they err, by simulation."""

import numpy as np
import pytest
import scipy.stats

from analysis.stats.bootstrap import make_design
from analysis.stats.guard_rails import guard_rails, holm, overall
from trainables.diagnostics.generalization import paired_rise


def one_area(differences, groups=None):
    names = groups or [str(i) for i in range(len(differences))]
    return make_design(["a"] * len(differences), names, {"a": 1.0}), differences, {"a": 0.05}


def test_with_one_item_a_cluster_it_is_the_paired_t_test():
    mine, base = np.random.default_rng(1).normal(size=(2, 30))
    rail = guard_rails(*one_area(mine - base))["a"]
    less = scipy.stats.ttest_rel(mine - 0.05, base, alternative="less")
    more = scipy.stats.ttest_rel(mine - 0.05, base, alternative="greater")
    assert (rail.p_pass, rail.p_fail) == (pytest.approx(less.pvalue), pytest.approx(more.pvalue))
    assert rail.delta == pytest.approx((mine - base).mean())
    reference = scipy.stats.ttest_rel(mine, base)
    low, high = reference.confidence_interval(0.9)  # two one-sided 95 % limits
    assert (rail.lower, rail.upper) == (pytest.approx(low), pytest.approx(high))


def test_unequal_clusters_have_the_spread_that_they_are_drawn_with():
    rng = np.random.default_rng(3)
    means, errors = [], []
    for _ in range(1500):
        sizes = rng.integers(1, 6, 40)
        values = np.repeat(rng.normal(0, 1, 40), sizes) + rng.normal(0, 0.5, sizes.sum())
        clusters = np.repeat(np.arange(40), sizes).astype(str).tolist()
        mean, error, _ = paired_rise(values.tolist(), [0.0] * len(values), clusters)
        means.append(mean)
        errors.append(error)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.06)


@pytest.mark.parametrize(
    ("mean", "sd", "outcome"),
    [
        *[(-0.5, 0.1, "pass"), (0.0, 0.02, "pass"), (0.0, 1.0, "undecided")],
        *[(0.06, 0.3, "undecided"), (0.5, 0.1, "fail")],
        *[(0.0, 0.0, "pass"), (0.05, 0.0, "undecided"), (0.2, 0.0, "fail")],  # items that all agree are beyond chance
    ],
)
def test_three_outcomes(mean, sd, outcome):
    noise = np.random.default_rng(4).normal(size=40)
    values = mean + sd * (noise - noise.mean()) / noise.std()
    rails = guard_rails(*one_area(values))
    assert rails["a"].outcome == outcome
    assert overall(rails) == outcome


def test_one_cluster_decides_nothing():
    rail = guard_rails(*one_area(np.full(10, -3.0), ["same"] * 10))["a"]
    assert (rail.outcome, rail.lower, rail.upper) == ("undecided", None, None)


def test_the_worst_area_speaks_for_all_and_areas_without_a_rail_are_not_asked():
    design = make_design(
        [name for name in "abc" for _ in range(20)], [str(i) for i in range(60)], dict.fromkeys("abc", 1)
    )
    values = np.concatenate([np.full(20, x) + np.tile([-0.01, 0.01], 10) for x in (-1.0, 1.0, 5.0)])
    rails = guard_rails(design, values, {"a": 0.0, "b": 0.1})
    assert {name: rail.outcome for name, rail in rails.items()} == {"a": "pass", "b": "fail"}
    assert overall(rails) == "fail"
    assert overall({}) is None


def test_holm_is_what_r_gives():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # p.adjust(…, "holm")
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_wrong_pass_or_fail_anywhere_is_rare():
    rng, sims, areas = np.random.default_rng(5), 400, "abcd"
    names = [name for name in areas for _ in range(25)]
    design = make_design(names, [str(i) for i in range(100)], dict.fromkeys(areas, 1.0))
    wrong = {"pass": 0, "fail": 0}
    for _ in range(sims):  # every area lies exactly at what is allowed, where both errors are most likely
        outcomes = {
            r.outcome for r in guard_rails(design, rng.normal(0.05, 0.3, 100), dict.fromkeys(areas, 0.05)).values()
        }
        for outcome in wrong:
            wrong[outcome] += outcome in outcomes
    assert all(0.02 <= count / sims <= 0.085 for count in wrong.values())
