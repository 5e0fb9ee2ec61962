"""What is shown with the ranking, against figures that are known."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from analysis.rank.candidates import Base, Candidate
from analysis.rank.score_matrix import token_weighted, trimmed_mean
from analysis.rank.sensitivity import by_other_measures, leave_one_area_out, lost_items, sealed_figures, variance_shares
from analysis.records.sweep import HeldoutScore
from analysis.stats.winner_selection import Rule
from tests.unit.analysis.conftest import matrix_of
from trainables.evaluation.objective import Measure

HALF = 20


def two_areas(*means):
    """(40 items, checkpoints) with these means in area a and b."""
    return np.vstack([np.tile([[a for a, _ in means]], (HALF, 1)), np.tile([[b for _, b in means]], (HALF, 1))])


def test_token_weighted_and_trimmed_means():
    rng = np.random.default_rng(0)
    nll, tokens = rng.gamma(2.0, 1.0, (40, 3)), rng.integers(1, 30, 40).astype(float)
    matrix = replace(matrix_of({"t": nll}, np.ones(40)), tokens=tokens)
    areas = (slice(0, HALF), slice(HALF, None))
    expected = [np.average(nll[area], axis=0, weights=tokens[area]) for area in areas]
    np.testing.assert_allclose(token_weighted(matrix), np.mean(expected, axis=0))
    expected = [scipy.stats.trim_mean(nll[area], 0.1, axis=0) for area in areas]
    np.testing.assert_allclose(trimmed_mean(matrix), np.mean(expected, axis=0))


def test_shares_of_the_variance_add_up_and_tell_where_settings_differ():
    means = [(1.0, 0.5), (1.6, 0.5), (1.3, 0.8)]
    matrix = matrix_of({f"t{i}": two_areas(mean) for i, mean in enumerate(means)}, np.ones(40))
    shares = variance_shares(matrix, [0, 1, 2])
    a, b = np.var(np.array(means), axis=0)
    assert shares == {"a": pytest.approx(a / (a + b)), "b": pytest.approx(b / (a + b))}
    assert sum(shares.values()) == pytest.approx(1)
    assert variance_shares(matrix, [0, 1]) == {"a": pytest.approx(1), "b": pytest.approx(0)}
    assert variance_shares(matrix, [0]) is None
    assert variance_shares(matrix, [0, 0]) is None


def test_another_winner_without_an_area_is_named():
    losses = {"t0": two_areas((1.0, 1.0), (0.9, 1.5)), "t1": two_areas((2.0, 0.8))}
    rule = Rule(np.array([0, 0, 1]), np.array([0, 1]), np.eye(2), np.array([True, True]))
    found = leave_one_area_out(matrix_of(losses, np.ones(40)), rule)
    assert found == {"a": {"trial_id": "t1", "step": 0}, "b": {"trial_id": "t0", "step": 1}}


def test_other_measures_name_their_own_first():
    class Named:
        measure = Measure()

        def pair(self, column):
            return {"column": column}

    figures = [
        {"objective": 1.0, "token_weighted": 3.0, "trimmed": 1.0, "exact_match": 0.5, "token_f1": None},
        {"objective": 2.0, "token_weighted": 1.0, "trimmed": 2.0, "exact_match": 0.5, "token_f1": None},
        {"objective": 3.0, "token_weighted": 0.0, "trimmed": 3.0, "exact_match": 0.9, "token_f1": None},
    ]
    found = by_other_measures(Named(), figures, [0, 1])
    assert found == {
        "token_weighted": {"column": 1, "value": 1.0},
        "trimmed": {"column": 0, "value": 1.0},
        "exact_match": {"column": 0, "value": 0.5},  # equals go by the objective
        "token_f1": None,
    }


def scored(nll, right=None, area="a", name="0"):
    return HeldoutScore(area, name, name, nll, 3, exact_match=right)


def test_items_that_the_winner_loses_and_others_win():
    base = np.ones(40)
    mine, other, third = np.full(40, 0.5), np.full(40, 0.7), np.full(40, 0.6)
    mine[[3, 30, 31]] = [1.2, 1.9, 1.1]  # worse than the base model on three
    other[[3, 30]] = [0.4, 0.8]
    third[[30, 31]] = [0.9, 1.3]
    other[31] = 1.05  # nobody wins item 31
    losses = {"t0": mine[:, None], "t1": other[:, None], "t2": third[:, None]}
    matrix = matrix_of(losses, base)
    answers = {"t0": 0.0, "t1": 1.0, "t2": None}
    candidates = [
        replace(c, scores={key: scored(1.0, answers[c.trial_id]) for key in matrix.keys}) for c in matrix.candidates
    ]
    found = lost_items(replace(matrix, candidates=tuple(candidates)), 0, [1, 2])
    assert found["loss"] == {"a": 1, "b": 1}
    assert [(item["area"], item["id"], item["best"]) for item in found["items"]] == [
        ("b", "30", "t1"),
        ("a", "3", "t1"),
    ]
    assert found["items"][0]["gap"] == pytest.approx(1.1)
    assert found["answer"] == {"a": 20, "b": 20}
    silent = replace(matrix, candidates=tuple(replace(c, scores=candidates[2].scores) for c in candidates))
    assert lost_items(silent, 0, [1, 2])["answer"] is None
    assert lost_items(silent, 0, [])["loss"] is None
    assert lost_items(replace(silent, base_nll=np.full(40, np.nan)), 0, [1])["loss"] is None


def test_sealed_areas_are_shown_against_the_base_model_where_it_was_scored():
    mine = {("s", str(i)): scored(0.5 + i / 100, 1.0, "s", str(i)) for i in range(20)}
    theirs = {key: replace(score, nll=score.nll + 0.25 + (int(key[1]) % 2) / 10) for key, score in mine.items()}
    candidate = Candidate("t", 9, None, {}, {}, sealed=mine)
    found = sealed_figures(candidate, Base({}, theirs), ["s", "never"])
    assert list(found) == ["s"]
    assert (found["s"]["nll"], found["s"]["delta"]) == (pytest.approx(0.595), pytest.approx(-0.3))
    low, high = found["s"]["delta_interval"]
    assert -0.35 < low < -0.3 < high < -0.25
    assert sealed_figures(candidate, Base({}, {}), ["s"])["s"]["delta"] is None
