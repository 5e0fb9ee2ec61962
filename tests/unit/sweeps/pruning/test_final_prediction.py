"""What finished trials predict of a running one: against the textbook's prediction interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeps.pruning.final_prediction import (
    LEAST_DF,
    REACH,
    features_of,
    late_fall,
    out_of_reach,
    predict_final,
    relative_features,
)


def line(n=12, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=n)
    return x, 1.0 + 0.7 * x + 0.1 * draw.normal(size=n)


def test_a_line_gives_the_textbooks_prediction_interval_and_a_trial_left_out_does_not_matter() -> None:
    x, y = line()
    new = 0.4
    found = predict_final((x - new)[:, None], y, np.ones(len(x)))
    fit = stats.linregress(x, y)
    residual = y - fit.intercept - fit.slope * x
    scatter = np.sqrt((residual**2).sum() / (len(x) - 2))
    sd = scatter * np.sqrt(1 + 1 / len(x) + (new - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    assert found.final == pytest.approx(fit.intercept + fit.slope * new, abs=1e-4)
    assert found.sd == pytest.approx(sd, rel=1e-3)
    assert found.df == len(x) - 2
    assert found.lowest(0.95) == pytest.approx(found.final - stats.t.ppf(0.95, len(x) - 2) * found.sd)
    mask = np.ones(len(x))
    mask[3] = 0
    x[3], y[3] = np.nan, np.nan
    found = predict_final(x[:, None], y, mask)
    assert np.isfinite(found.final)
    assert found.df == len(x) - 1 - 2


def test_the_interval_holds_as_often_as_it_says() -> None:
    """One new observation in each of many draws, few trials to learn from."""
    draw = np.random.default_rng(1)
    batch, trials = 4000, 7
    x = draw.normal(size=(batch, trials + 1))
    y = 2.0 - 0.5 * x + 0.3 * draw.normal(size=(batch, trials + 1))
    found = predict_final((x[:, :-1] - x[:, -1:])[..., None], y[:, :-1], np.ones((batch, trials)))
    held = np.mean(y[:, -1] >= found.lowest(0.9))
    assert held == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / batch))


def test_a_batch_is_what_its_parts_are() -> None:
    draw = np.random.default_rng(2)
    features, finals = draw.normal(size=(3, 9, 2)), draw.normal(size=9)
    masks = np.array([[1] * 9, [1] * 7 + [0] * 2, [0] + [1] * 8])
    noise = np.array([0.0, 5.0, 0.1])
    whole = predict_final(features, finals, masks, noise)
    for row in range(3):
        kept = masks[row] > 0
        part = predict_final(features[row][kept], finals[kept], np.ones(kept.sum()), noise[row])
        assert whole.final[row] == pytest.approx(float(part.final))
        assert whole.sd[row] == pytest.approx(float(part.sd))


@pytest.mark.parametrize(("trials", "known"), [(0, False), (1, False), (LEAST_DF + 1, False), (LEAST_DF + 2, True)])
def test_few_trials_predict_nothing(trials, known) -> None:
    x, y = line()
    found = predict_final(x[:trials, None], y[:trials], np.ones(trials))
    assert np.isfinite(found.final) == known
    assert np.isfinite(found.lowest(0.9)) == known


@pytest.mark.parametrize(("trials", "taken"), [(4, 1), (5, 2), (6, 3), (7, 4), (12, 4)])
def test_features_are_taken_up_as_trials_allow(trials, taken) -> None:
    draw = np.random.default_rng(5)
    features, finals = draw.normal(size=(trials, 4)), draw.normal(size=trials)
    found = predict_final(features, finals, np.ones(trials))
    design = np.column_stack([np.ones(trials), features[:, :taken]])
    expected, residual, *_ = np.linalg.lstsq(design, finals, rcond=None)
    assert found.df == trials - 1 - taken
    assert found.final == pytest.approx(expected[0], abs=0.01)
    assert found.slopes == pytest.approx([*expected[1:], *[0.0] * (4 - taken)], abs=0.01)
    assert found.scatter == pytest.approx(np.sqrt(residual[0] / found.df), rel=0.01)
    elsewhere = np.eye(4)[3]
    assert (found.lowest_behind(elsewhere, 0.9) == found.lowest_behind(np.zeros(4), 0.9)) == (taken < 4)


def test_a_late_fall_is_bounded_as_welch_would() -> None:
    now, end = np.array([2.0, 2.4, 2.2, 2.6]), np.array([1.0, 1.4, 1.1, 1.3, 1.2])
    bound = late_fall(now, end, 0.9)
    interval = stats.ttest_ind(now, end, equal_var=False).confidence_interval(0.8)
    assert bound >= interval.high
    assert bound == pytest.approx(interval.high, abs=0.03)


@pytest.mark.parametrize(
    ("gap", "falls", "expected"),
    [
        ([3.0, 3.0, 3.0], [1.0], 3.0 - REACH),
        ([3.0, 3.0, 3.0], [0.2, 1.4, 0.3], 3.0 - 1.4 * REACH),
        ([0.5, 0.5, 0.5], [-0.1], 0.5),  # a loss that rose to the end wins nothing back
        ([2.0, 3.0, 4.0], [1.0], 3.0 - stats.t.ppf(0.9, 2) / np.sqrt(3) - REACH),
    ],
)
def test_a_gap_is_held_against_the_greatest_late_fall(gap, falls, expected) -> None:
    assert out_of_reach(np.array(gap), np.array(falls), 0.9) == pytest.approx(expected)


def test_nothing_is_known_where_no_trial_differs_and_a_fit_by_luck_is_held_to_the_trials_own_noise() -> None:
    x, y = line()
    same = np.column_stack([x, np.full(len(x), -3.0)])  # the trial in question lies 3 units away from all
    assert predict_final(same, y, np.ones(len(x))).sd > 100 * predict_final(x[:, None], y, np.ones(len(x))).sd
    x = np.array([0.0, 1.0, 2.0, 3.0])
    found = predict_final(x[:, None] - 1.0, 2 * x, np.ones(4), own_noise=0.1)
    assert found.scatter == pytest.approx(2 * 0.1, rel=1e-3)


def test_two_running_trials_are_compared_by_their_difference() -> None:
    x, y = line()
    found = predict_final((x - 1.0)[:, None], y, np.ones(len(x)))
    same = found.lowest_behind(np.array([0.0]), 0.95)
    assert same == pytest.approx(-stats.t.ppf(0.95, len(x) - 2) * found.scatter * np.sqrt(2))
    assert found.lowest_behind(np.array([-100.0]), 0.95) > 0 > found.lowest_behind(np.array([100.0]), 0.95)


def test_features_are_taken_relative_to_the_trial() -> None:
    trials = features_of(np.array([1.0, 2.0]), np.array([1e-4, 1e-3]), np.array([3.0, 4.0]))
    own = features_of(np.array([1.0]), np.array([1e-3]), np.array([3.5]))
    mass = np.log([1e-4, 1e-3]) - np.log(1e-3)
    expected = np.column_stack([np.log([1.001, 2.001]) - np.log(1.001), mass, mass**2, [-0.5, 0.5]])
    assert relative_features(trials, own) == pytest.approx(expected)
