"""The bootstrap against closed forms and scipy, its coverage on simulated data, and what must not change it."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.bootstrap import Bootstrap, area_means, make_design, objective, percentile_interval


def one_area(items, cluster=1):
    """A design of one area whose items come in clusters of this size."""
    return make_design(["a"] * items, [str(i // cluster) for i in range(items)], {"a": 1.0})


def test_objective_is_the_weighted_mean_of_area_means():
    design = make_design(["b", "a", "b"], ["x", "x", "y"], {"a": 3.0, "b": 1.0})
    nll = np.array([[1.0], [10.0], [2.0]])
    assert area_means(design, nll)[:, 0].tolist() == [10.0, 1.5]
    assert objective(design, nll)[0] == pytest.approx((3 * 10 + 1 * 1.5) / 4)


def test_resampled_spread_of_a_stratified_mean_has_its_closed_form():
    rng = np.random.default_rng(1)
    sizes, weights = {"a": 80, "b": 200}, {"a": 2.0, "b": 1.0}
    areas = [area for area, n in sizes.items() for _ in range(n)]
    nll = np.concatenate([rng.normal(1, 0.5, 80), rng.gamma(2, 1, 200)])[:, None]
    design = make_design(areas, [str(i) for i in range(280)], weights)
    draws = Bootstrap(design, resamples=20_000, seed=3).objective(nll)[:, 0]
    # the bootstrap variance of a mean is the plug-in variance over n; strata add up with the squares of their shares
    variance = (2 / 3) ** 2 * nll[:80].var() / 80 + (1 / 3) ** 2 * nll[80:].var() / 200
    assert draws.std() == pytest.approx(np.sqrt(variance), rel=0.03)
    assert draws.mean() == pytest.approx(objective(design, nll)[0], abs=4 * np.sqrt(variance / 20_000))


def test_equal_clusters_are_resampled_as_wholes():
    rng = np.random.default_rng(2)
    shared = np.repeat(rng.normal(0, 1, 60), 5)  # items of one context share their loss: 60 independent values, not 300
    design = one_area(300, cluster=5)
    draws = Bootstrap(design, resamples=20_000).objective(shared[:, None])[:, 0]
    assert draws.std() == pytest.approx(shared[::5].std() / np.sqrt(60), rel=0.03)


def test_percentile_interval_agrees_with_scipy():
    values = np.random.default_rng(4).gamma(2.0, 1.0, 150)
    design = one_area(150)
    ours = percentile_interval(Bootstrap(design, resamples=20_000).objective(values[:, None])[:, 0], 0.9)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=0.9, rng=5
    ).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.04 * (theirs.high - theirs.low))


def simulated(sims, clusters, per_cluster, seed):
    """(items, sims) losses of one area with true mean 0: cluster effect sd 1, item noise sd 0.5."""
    rng = np.random.default_rng(seed)
    effects = np.repeat(rng.normal(0, 1, (clusters, sims)), per_cluster, axis=0)
    return effects + rng.normal(0, 0.5, effects.shape)


def test_intervals_cover_the_truth_when_clusters_are_named_and_not_when_they_are_hidden():
    sims, clusters, per_cluster = 600, 40, 5
    nll = np.concatenate([simulated(sims, clusters, per_cluster, seed) for seed in (1, 2)])
    items = clusters * per_cluster
    areas = ["a"] * items + ["b"] * items
    weights = {"a": 1.0, "b": 2.0}
    coverage = {}
    for name, groups in {
        "clusters": [str(i // per_cluster) for i in range(2 * items)],
        "items": [str(i) for i in range(2 * items)],
    }.items():
        low, high = percentile_interval(Bootstrap(make_design(areas, groups, weights), 1000).objective(nll))
        coverage[name] = np.mean((low <= 0) & (high >= 0))
    assert 0.91 <= coverage["clusters"] <= 0.98
    assert coverage["items"] < 0.75


def test_pairing_takes_the_items_own_difficulty_out_of_a_difference():
    rng = np.random.default_rng(6)
    hard = rng.normal(2, 1, 200)
    nll = np.stack([hard, hard + 0.05 + rng.normal(0, 0.05, 200)], axis=1)
    draws = Bootstrap(one_area(200)).objective(nll)
    low, high = percentile_interval(draws[:, 1] - draws[:, 0])
    assert 0 < low < 0.05 < high
    assert high - low < 0.1 * np.diff(percentile_interval(draws[:, 0]))[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_order_of_items_names_of_groups_shift_and_scale_of_weights_change_nothing(seed, shift, scale):
    rng = np.random.default_rng(seed)
    areas = [*rng.choice(["a", "b"], 30).tolist(), "a", "a", "b", "b"]
    groups = [*rng.integers(0, 6, 32).astype(str).tolist(), "8", "9"]
    nll = rng.normal(size=(34, 2))
    weights = {"a": 1.0, "b": 0.5}
    plain = Bootstrap(make_design(areas, groups, weights), 50, seed=1).objective(nll)
    order = rng.permutation(34)
    renamed = [f"context {groups[i]}" for i in order]
    scaled = {name: weight * scale for name, weight in weights.items()}
    design = make_design([areas[i] for i in order], renamed, scaled)
    again = Bootstrap(design, 50, seed=1).objective(nll[order] + shift)
    np.testing.assert_allclose(again, plain + shift, rtol=1e-9, atol=1e-9)


def test_a_nan_reaches_its_own_checkpoint_only():
    nll = np.random.default_rng(0).normal(size=(20, 3))
    nll[4, 1] = np.nan
    draws = Bootstrap(one_area(20)).objective(nll)
    interval = percentile_interval(draws)
    assert np.isnan(interval[:, 1]).all()
    assert np.isfinite(interval[:, [0, 2]]).all()


def test_one_cluster_gives_no_interval_instead_of_one_of_width_zero():
    design = one_area(10, cluster=10)
    assert np.isnan(percentile_interval(Bootstrap(design).objective(np.ones((10, 2))))).all()


@pytest.mark.parametrize(
    ("areas", "groups", "weights", "message"),
    [
        (["a"], ["x", "y"], {"a": 1.0}, "one length"),
        (["a", "b"], ["x", "y"], {"a": 1.0}, "must agree"),
        (["a"], ["x"], {"a": 1.0, "b": 1.0}, "must agree"),
        (["a"], ["x"], {"a": 0.0}, "above 0"),
        (["a"], ["x"], {"a": float("nan")}, "above 0"),
    ],
)
def test_a_design_that_does_not_fit_is_refused(areas, groups, weights, message):
    with pytest.raises(ValueError, match=message):
        make_design(areas, groups, weights)
