"""The model of the objective against scipy's densities, a brute-force conditional, and simulated luck of seeds."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.stats.objective_model import SPENT_DF, _posterior, fit, kernel, noise

HYPERS = [(0.2, 1e-2, 0.0), (0.8, 0.3, 0.8), (3.2, 5.0, 1.2)]


def trials(n: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-4.3, -2.7, n), rng.uniform(size=(n, 2)), rng.normal(size=n)


def test_the_likelihood_is_scipys_density_of_contrasts_that_the_mean_does_not_move():
    decades, others, values = trials()
    contrasts = scipy.linalg.null_space(np.ones((1, len(values))))
    gaps = []
    for length, ratio, growth in HYPERS:
        signal, luck = kernel(decades, others, length), noise(decades, ratio, growth)
        found = _posterior(signal, luck, values)
        scale = found.noise[0] / luck[0]
        spread = scale * contrasts.T @ (signal + np.diag(luck)) @ contrasts
        density = scipy.stats.multivariate_normal(cov=spread).logpdf(contrasts.T @ values)
        gaps.append(density - found.log_likelihood)
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-9)  # constant: the same for all hyper-parameters


@pytest.mark.parametrize("hyper", HYPERS)
def test_the_posterior_is_the_conditional_under_a_wide_prior_of_the_mean(hyper):
    decades, others, values = trials()
    length, ratio, growth = hyper
    signal, luck = kernel(decades, others, length), noise(decades, ratio, growth)
    found = _posterior(signal, luck, values)
    wide = signal + 1e5
    gain = wide @ np.linalg.inv(wide + np.diag(luck))
    np.testing.assert_allclose(found.weights @ values, gain @ values, atol=1e-3)
    scale = found.noise[0] / luck[0]
    np.testing.assert_allclose(found.covariance, scale * (wide - gain @ wide), atol=1e-3 * scale)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 999), st.floats(-5, 5), st.floats(0.01, 100))
def test_another_origin_and_unit_of_the_objective_change_nothing_else(seed, shift, unit):
    decades, others, values = trials(7, seed)
    plain, moved = fit(decades, others, values), fit(decades, others, shift + unit * values)
    assert plain
    assert moved
    np.testing.assert_allclose(plain.weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(plain.weights @ values, plain.mean)
    np.testing.assert_allclose(moved.mean, shift + unit * plain.mean, atol=1e-6 * unit)
    np.testing.assert_allclose(moved.covariance, unit**2 * plain.covariance, rtol=1e-5, atol=1e-6 * unit**2)
    np.testing.assert_allclose(moved.noise_sd, unit * plain.noise_sd, rtol=1e-5)


@pytest.mark.parametrize("points", [1, 4, 5])
def test_four_settings_are_too_few_however_often_they_were_repeated(points):
    decades, others, values = trials(12)
    place = np.arange(12) % points
    found = fit(decades[place], others[place], values)
    assert (found is None) == (points <= SPENT_DF)
    if found:
        assert found.df == 12 - SPENT_DF
        np.testing.assert_allclose(found.mean, found.mean[place])  # replicates share their setting's worth


def test_equal_objectives_and_a_fixed_lr_are_no_error():
    found = fit(np.full(6, -4.0), np.linspace(0, 1, 6)[:, None], np.full(6, 1.5))
    assert found
    np.testing.assert_allclose(found.mean, 1.5)
    assert np.isfinite(found.covariance).all()


def told_apart(decades, others, values) -> list[tuple[int, int]]:
    found, k = fit(decades, others, values), len(values)
    assert found
    reach = scipy.stats.t.isf(0.05 / (k * (k - 1)), found.df)
    variances = np.diag(found.covariance)
    sd = np.sqrt(np.maximum(variances[:, None] + variances[None, :] - 2 * found.covariance, 0.0))
    return list(zip(*np.nonzero(found.mean[:, None] - found.mean[None, :] > reach * sd + 1e-12), strict=True))


def luck(rng, decades, seeds: int) -> np.ndarray:
    """Each seed's luck: smooth over the LR to 85 %, with an sd of 0.04 nats at 6e-4 that grows as LR^0.76."""
    k = len(decades)
    smooth = np.exp(-0.5 * ((decades[:, None] - decades[None, :]) / 0.5) ** 2) + 1e-9 * np.eye(k)
    of_seed = np.linalg.cholesky(smooth) @ rng.normal(size=(k, seeds))
    shared = of_seed[np.arange(k), np.arange(k) % seeds]
    own = rng.normal(size=k)
    return 0.04 * 10 ** (0.76 * (decades + 3.22)) * (np.sqrt(0.85) * shared + np.sqrt(0.15) * own)


def test_four_seeds_in_rotation_call_no_equal_settings_different_and_tell_a_slope():
    rng = np.random.default_rng(0)
    false = told = 0
    for _ in range(40):
        decades, others = rng.uniform(-4.3, -2.7, 12), rng.uniform(size=(12, 2))
        chance = luck(rng, decades, 4)
        false += bool(told_apart(decades, others, chance))
        pairs = told_apart(decades, others, 2.0 * (decades + 3.5) ** 2 + chance)
        told += bool(pairs)
        assert all(abs(decades[a] + 3.5) > abs(decades[b] + 3.5) for a, b in pairs)
    assert false <= 2
    assert told >= 20
