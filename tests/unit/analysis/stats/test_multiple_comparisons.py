"""How sure a difference must be: closed forms, and how often equal settings are called different."""

import math

import numpy as np
import pytest

from analysis.stats.multiple_comparisons import (
    ROUNDS,
    contenders_at_most,
    pair_tail,
    planned_rounds,
    replicates_at_most,
    round_tail,
)
from analysis.stats.seed_variance import critical_value


@pytest.mark.parametrize(
    ("settings", "tail"), [(1, 0.025), (2, 0.025), (3, 0.05 / 6), (4, 0.05 / 12), (16, 0.05 / 240)]
)
def test_every_ordered_pair_gets_an_equal_part(settings, tail):
    assert pair_tail(settings) == pytest.approx(tail)
    assert pair_tail(settings, 0.2) == pytest.approx(4 * tail)


@pytest.mark.parametrize(
    ("round_", "rounds", "part"),
    [(1, 1, 1.0), (1, 2, 1 / 5), (2, 2, 4 / 5), (1, 4, 1 / 30), (2, 4, 4 / 30), (3, 4, 9 / 30), (4, 4, 16 / 30)],
)
def test_the_part_of_a_round_grows_with_its_square(round_, rounds, part):
    assert round_tail(3, round_, rounds) == pytest.approx(part * 0.05 / 6)


@pytest.mark.parametrize("rounds", range(1, ROUNDS + 1))
def test_all_rounds_together_spend_alpha_and_no_more(rounds):
    assert sum(round_tail(4, number, rounds, 0.1) for number in range(1, rounds + 1)) == pytest.approx(0.1 / 12)
    assert round_tail(4, rounds + 1, rounds) == round_tail(4, rounds, rounds)


@pytest.mark.parametrize(
    ("round_", "rounds", "looks", "part"),
    [
        (1, 4, "auto", 0.0),
        (3, 4, "auto", 0.0),
        (4, 4, "auto", 1.0),
        (2, 2, "auto", 1.0),
        (1, 1, "auto", 1.0),
        (1, 2, "every_round", 1 / 5),
        (2, 2, "every_round", 4 / 5),
    ],
)
def test_two_settings_are_tested_once_after_the_last_round_at_the_whole_alpha(round_, rounds, looks, part):
    assert round_tail(2, round_, rounds, looks=looks) == pytest.approx(part * 0.05 / 2)


@pytest.mark.parametrize(
    ("budget", "trials", "limit", "replicates", "contenders", "rounds"),
    [
        ("auto", 12, 4, 4, 2, 2),
        ("auto", 40, 4, 4, 2, 2),
        ("auto", 11, 4, 0, 2, 1),
        (0, 40, 4, 0, 2, 1),
        (8, 3, 4, 8, 2, 4),
        (9, 12, 4, 9, 3, 3),
        (16, 12, 4, 16, 4, 4),
        (16, 12, 2, 16, 2, 4),
    ],
)
def test_replicates_contenders_and_rounds_that_a_budget_means(budget, trials, limit, replicates, contenders, rounds):
    assert replicates_at_most(budget, trials) == replicates
    assert contenders_at_most(limit, replicates) == contenders
    assert planned_rounds(contenders, ROUNDS, replicates) == rounds


@pytest.mark.parametrize(
    ("settings", "rounds", "budget", "planned"),
    [(4, 4, None, 4), (4, 4, 16, 4), (4, 4, 15, 3), (2, 4, 16, 4), (4, 2, 16, 2), (4, 4, 3, 1), (3, 4, 0, 1)],
)
def test_rounds_that_a_budget_pays_for(settings, rounds, budget, planned):
    assert planned_rounds(settings, rounds, budget) == planned


@pytest.mark.parametrize("settings", [2, 4, 16])
def test_any_of_equal_settings_is_called_worse_in_5_of_100_cases_at_most(settings):
    values = np.random.default_rng(5).normal(size=(20_000, settings))
    reach = critical_value(pair_tail(settings), math.inf) * math.sqrt(2)
    called = np.mean(np.ptp(values, axis=1) > reach)  # the lowest against the highest, which chance picked
    assert 0.02 <= called <= 0.053
