"""The model against closed forms of the normal distribution, and what it claims where there is nothing."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats import objective_model
from analysis.stats.multiple_comparisons import pair_tail
from analysis.stats.objective_model import fit, matern52
from analysis.stats.seed_variance import critical_value


def setting(trials=9, seed=0):
    draw = np.random.default_rng(seed)
    return np.sort(draw.uniform(-4, -2.5, trials)), draw.uniform(size=(trials, 2)), draw


def one_point(monkeypatch, length, ratio, growth):
    monkeypatch.setattr(objective_model, "LENGTHS", (length,))
    monkeypatch.setattr(objective_model, "NOISE_RATIOS", (ratio,))
    monkeypatch.setattr(objective_model, "GROWTHS", (growth,))


@pytest.mark.parametrize(("length", "ratio", "growth"), [(0.4, 0.1, 0.0), (1.6, 3.0, 0.8)])
def test_the_posterior_is_that_of_the_joint_normal_distribution(monkeypatch, length, ratio, growth):
    one_point(monkeypatch, length, ratio, growth)
    decades, others, draw = setting()
    scores = draw.normal(1.0, 0.1, len(decades))
    model = fit(decades, others, scores)
    kernel = 0.95 * matern52(np.abs(decades[:, None] - decades) / length)
    kernel += 0.05 * np.exp(-0.5 * ((others[:, None] - others) ** 2).sum(-1))
    noise = np.diag(ratio * 10 ** (2 * growth * (decades - decades.mean())))
    # A mean of which nothing is known, as a normal one with a huge variance.
    wide = 1e8
    joint = kernel + wide
    mean = joint @ np.linalg.solve(joint + noise, scores)
    assert model.mean == pytest.approx(mean, abs=1e-5)
    assert model.weights.sum(axis=1) == pytest.approx(np.ones(9))
    assert model.weights @ scores == pytest.approx(model.mean)
    contrasts = np.linalg.qr(np.column_stack([np.ones(9), np.eye(9)[:, :8]]))[0][:, 1:]
    v = contrasts.T @ (kernel + noise) @ contrasts
    scale = (contrasts.T @ scores) @ np.linalg.solve(v, contrasts.T @ scores) / 8
    covariance = scale * (joint - joint @ np.linalg.solve(joint + noise, joint))
    ours = model.difference_sd(1, 7) ** 2
    assert ours == pytest.approx(covariance[1, 1] + covariance[7, 7] - 2 * covariance[1, 7], rel=1e-3)
    assert model.noise_sd**2 == pytest.approx(scale * np.diag(noise))
    assert model.df == 5


def test_rows_without_a_score_are_predicted_and_change_nothing_else():
    decades, others, draw = setting()
    scores = draw.normal(1.0, 0.1, 9)
    alone = fit(decades, others, scores)
    # The same row again, one between two others, and one far off, of which little is known.
    more = np.array([decades[4], (decades[3] + decades[4]) / 2, decades[8] + 3.0])
    model = fit(np.append(decades, more), np.vstack([others, others[4], others[4], others[4]]), scores)
    assert model.mean[:9] == pytest.approx(alone.mean)
    assert model.covariance[:9, :9] == pytest.approx(alone.covariance)
    assert (model.mean[9], model.sd(9)) == pytest.approx((alone.mean[4], alone.sd(4)))
    assert model.weights[9:] @ scores == pytest.approx(model.mean[9:])
    assert model.sd(11) > 1.5 * model.sd(10)


def test_points_of_the_grid_count_by_their_restricted_likelihood(monkeypatch):
    decades, others, draw = setting()
    scores = draw.normal(1.0, 0.1, 9)
    monkeypatch.setattr(objective_model, "LENGTHS", (0.4,))
    monkeypatch.setattr(objective_model, "GROWTHS", (0.0,))
    ratios, means, logs = (0.05, 5.0), [], []
    contrasts = np.linalg.qr(np.column_stack([np.ones(9), np.eye(9)[:, :8]]))[0][:, 1:]
    kernel = 0.95 * matern52(np.abs(decades[:, None] - decades) / 0.4)
    kernel += 0.05 * np.exp(-0.5 * ((others[:, None] - others) ** 2).sum(-1))
    for ratio in ratios:
        monkeypatch.setattr(objective_model, "NOISE_RATIOS", (ratio,))
        means.append(fit(decades, others, scores).mean)
        v, y = contrasts.T @ (kernel + ratio * np.eye(9)) @ contrasts, contrasts.T @ scores
        scale = y @ np.linalg.solve(v, y) / 8
        logs.append(stats.multivariate_normal(np.zeros(8), scale * v).logpdf(y))
    monkeypatch.setattr(objective_model, "NOISE_RATIOS", ratios)
    shares = np.exp(np.array(logs) - max(logs))
    assert fit(decades, others, scores).mean == pytest.approx(shares @ np.array(means) / shares.sum())


@pytest.mark.parametrize(("trials", "distinct", "fits"), [(5, 5, False), (6, 4, False), (6, 5, True), (9, 5, True)])
def test_few_trials_are_not_modeled(trials, distinct, fits):
    draw = np.random.default_rng(0)
    decades = np.resize(np.linspace(-4, -3, distinct), trials)
    assert (fit(decades, np.zeros((trials, 1)), draw.normal(size=trials)) is not None) is fits
    assert fit(decades, np.zeros((trials, 1)), np.ones(trials)) is None


def test_replicates_share_their_settings_posterior_and_sharpen_it():
    decades, _, draw = setting(8)
    scores = (decades + 3.2) ** 2 + draw.normal(0, 0.05, 8)
    again = np.concatenate([decades, decades[:2], decades[:2], decades[:2]])
    more = np.concatenate([scores, (decades[[0, 1, 0, 1, 0, 1]] + 3.2) ** 2 + draw.normal(0, 0.05, 6)])
    one, many = (fit(d, np.zeros((len(d), 1)), s) for d, s in ((decades, scores), (again, more)))
    assert many.mean[0] == pytest.approx(many.mean[8])
    assert many.covariance[0, 0] < one.covariance[0, 0]


def test_equal_settings_under_rotated_seeds_are_not_called_different():
    """Luck as measured: a smooth function of the LR for each of four seeds, which grows with the LR."""
    draw, wrong, sweeps = np.random.default_rng(1), 0, 60
    decades = np.linspace(-4, -2.5, 12)
    smooth = np.linalg.cholesky(matern52(np.abs(decades[:, None] - decades) / 0.6) + 1e-9 * np.eye(12))
    for _ in range(sweeps):
        luck = (smooth @ draw.normal(size=(12, 4))) * (0.04 * 10 ** (0.5 * (decades - decades.mean())))[:, None]
        order = draw.permutation(12)
        scores = 1.0 + luck[order, np.arange(12) % 4]
        model = fit(decades[order], np.zeros((12, 1)), scores)
        reach = critical_value(pair_tail(12), model.df)
        best = int(np.argmin(model.mean))
        wrong += any(
            model.mean[k] - model.mean[best] > reach * model.difference_sd(k, best) for k in range(12) if k != best
        )
    assert wrong / sweeps <= 0.05
