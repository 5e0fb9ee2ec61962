"""The rule that names the winner, and its gain corrected for having been selected: by simulation."""

import numpy as np
import pytest
import scipy.stats

from analysis.stats.bootstrap import Bootstrap, objective, percentile_interval
from analysis.stats.winner_selection import Rule, corrected_gain
from tests.unit.analysis.conftest import halves


def one_setting_a_trial(trials, checkpoints):
    """Every trial its own setting, with equally many checkpoints."""
    return Rule(
        trial_of=np.repeat(np.arange(trials), checkpoints),
        setting_of=np.arange(trials),
        weights=np.eye(trials),
        eligible=np.ones(trials, dtype=bool),
    )


# search trials 0 and 1 (two checkpoints each) and trial 2, which replicates 0; trial 3 belongs to nothing
REPLICATED = Rule(
    trial_of=np.array([0, 0, 1, 1, 2, 3]),
    setting_of=np.array([0, 1, 0, -1]),
    weights=np.array([[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]),
    eligible=np.array([True, True]),
)


@pytest.mark.parametrize(
    ("objectives", "setting", "checkpoint"),
    [
        ([9, 8, 5, 6, 4, 0], 0, 4),  # its replicate speaks for setting 0
        ([1, 8, 5, 6, 4, 0], 0, 0),  # and of all its checkpoints the lowest is exported
        ([1, 2, 5, 6, 7, 0], 1, 2),  # its own low score does not help it
        ([1, 1, 4, 4, 4, 0], 0, 0),  # equals: the first
    ],
)
def test_who_wins(objectives, setting, checkpoint):
    totals = np.array([objectives, objectives], dtype=float)
    assert REPLICATED.best_settings(totals).tolist() == [setting] * 2
    assert REPLICATED.choose(totals).tolist() == [checkpoint] * 2


@pytest.mark.parametrize(
    ("search", "replicate", "figure", "exported"),
    [
        ([3, 5], [8, 6], 8, 0),  # the search trial is lowest at its first checkpoint: there the replicate is read
        ([5, 3], [6, 8], 8, 1),  # and not at its own lowest, which flatters it
        ([5, 3], [8, 2], 2, 3),  # of all checkpoints of the setting the lowest is exported
        ([4, 4], [7, 9], 7, 0),  # equals: the first
    ],
)
def test_a_replicate_is_read_where_its_search_trial_was_best(search, replicate, figure, exported):
    own, its = np.array([2, 3]), np.array([0, 1])
    rule = Rule(
        np.array([0, 0, 1, 1]), np.array([0, 0]), np.array([[0.0, 1.0]]), np.array([True]), read_at={1: (own, its)}
    )
    totals = np.array([[*search, *replicate], [1, 2, 3, 4]], dtype=float)
    assert rule.setting_figures(totals)[:, 0].tolist() == [figure, 3]
    assert rule.choose(totals).tolist() == [exported, 0]


def test_only_eligible_settings_win():
    rule = Rule(REPLICATED.trial_of, REPLICATED.setting_of, REPLICATED.weights, np.array([False, True]))
    assert rule.choose(np.array([[0.0, 0.0, 9.0, 8.0, 0.0, 0.0]])).tolist() == [3]


def test_the_correction_takes_out_what_selection_adds():
    items, sims, truth = 80, 250, 0.1
    rng = np.random.default_rng(1)
    design = halves(items)
    draws, rule = Bootstrap(design, 200), one_setting_a_trial(8, 2)  # 16 checkpoints, all equally good
    plain, corrected, covered = [], [], []
    for _ in range(sims):
        gains = truth + np.repeat(rng.normal(0, 0.3, (items // 2, 16)), 2, axis=0)
        totals = objective(design, gains)
        best = int(np.argmax(totals))
        assert best == rule.choose(-totals[None, :])[0]
        plain.append(totals[best])
        corrected.append(corrected_gain(rule, draws, gains))
        low, high = percentile_interval(draws.objective(gains[:, [best]]))[:, 0] - plain[-1] + corrected[-1]
        covered.append(low <= truth <= high)
    error = np.std(corrected) / np.sqrt(sims)
    # the mean of the highest of 16 normal values lies 1.77 sd above their own mean
    assert np.mean(plain) - truth == pytest.approx(1.766 * 0.3 / np.sqrt(40), rel=0.1)
    assert abs(np.mean(corrected) - truth) < 3 * error < 0.01
    assert np.mean(covered) >= 0.93


def test_the_correction_leaves_a_clear_winner_nearly_unchanged():
    rng = np.random.default_rng(2)
    gains = rng.normal(0, 0.1, (80, 4)) + np.array([0.0, 0.0, 0.0, 1.0])
    draws = Bootstrap(halves(80), 2000)
    plain = float(objective(halves(80), gains)[3])
    assert corrected_gain(one_setting_a_trial(4, 1), draws, gains) == pytest.approx(plain, abs=0.002)


def test_out_of_bag_scores_are_of_the_clusters_that_were_not_drawn():
    values = np.random.default_rng(3).normal(size=80)
    draws = Bootstrap(halves(80), 4000)
    both = np.stack([draws.objective(values[:, None])[:, 0], draws.out_of_bag(values[:, None])[:, 0]])
    assert both.mean(axis=1) == pytest.approx([values.mean()] * 2, abs=0.01)
    assert scipy.stats.pearsonr(*both).statistic < -0.5  # what was drawn often is missing there


def test_a_single_checkpoint_keeps_its_gain():
    gains = np.random.default_rng(4).normal(size=(80, 1))
    rule = one_setting_a_trial(1, 1)
    assert corrected_gain(rule, Bootstrap(halves(80), 50), gains) == objective(halves(80), gains)[0]


def test_few_clusters_leave_resamples_without_any_left_out():
    gains = np.ones((8, 2))  # two areas of two clusters each: half of the resamples draw both of one
    draws = Bootstrap(halves(8), 400)
    share = np.isfinite(draws.out_of_bag(gains)[:, 0]).mean()
    assert share == pytest.approx(0.25, abs=0.07)
    assert corrected_gain(one_setting_a_trial(2, 1), draws, gains) == 1.0
    alone = Bootstrap(halves(4), 50)  # a single cluster an area says nothing about its spread
    assert np.isnan(corrected_gain(one_setting_a_trial(2, 1), alone, gains[:4]))
