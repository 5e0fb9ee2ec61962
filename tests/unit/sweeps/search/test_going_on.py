"""Which paused trials go on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.config.pausing import trials_to_finish
from sweeps.search.going_on import choose

# Peak LRs at least `APART` from each other; two shapes, which keeps the model of the LR out.
FAR = {f"t{n}": {"peak_lr": 10.0 ** (-5 + 0.07 * n), "shape": "cosine" if n % 2 else "linear"} for n in range(70)}


@pytest.mark.parametrize(
    ("scores", "finished", "trials", "chosen"),
    [
        ({"t2": 1.3, "t3": 1.1, "t4": 1.2, "t5": 1.4, "t6": 1.5}, 1, 6, ["t3", "t4", "t2"]),
        ({"t2": 1.3, "t3": 1.1, "t4": 1.2, "t5": 1.4, "t6": 1.5}, 0, 6, ["t3", "t4", "t2", "t5"]),  # the first diverged
        ({"t3": 1.1, "t2": 1.1}, 3, 6, ["t2"]),  # equal scores: the earlier
        ({"t2": 1.3, "t3": 1.1}, 6, 6, ["t3"]),  # enough have finished: the best goes on all the same
        ({"t2": math.nan, "t3": 9.0}, 1, 6, ["t3"]),
        ({"t2": math.nan}, 1, 6, []),
        ({}, 1, 6, []),
    ],
)
def test_the_best_scores_go_on(scores, finished, trials, chosen):
    assert choose(scores, FAR, [1.0] * finished, trials) == chosen


@pytest.mark.parametrize(
    ("lrs", "finished", "chosen"),
    [
        ([1.00e-3, 1.05e-3, 1.10e-3, 2e-3, 3e-3], [1e-4], ["t2", "t5", "t6"]),  # the best of three neighbors
        ([1.00e-3, 2e-3, 3e-3, 4e-3, 5e-3], [1.05e-3], ["t3", "t4", "t5"]),  # the finished trial has that LR
        ([1.00e-3, 1.01e-3, 1.02e-3, 1.03e-3, 2e-3], [1e-4], ["t2", "t3", "t6"]),  # too few LRs: then by score
        ([1e-3] * 5, [1e-3], ["t2", "t3", "t4"]),  # one LR: by score alone
    ],
)
def test_those_that_go_on_lie_apart_while_there_are_such(lrs, finished, chosen):
    names = [f"t{n}" for n in range(2, 7)]
    scores = {name: 1 + k / 10 for k, name in enumerate(names)}
    settings = {name: {"peak_lr": lr} for name, lr in zip(names, lrs, strict=True)}
    assert choose(scores, settings, finished, 6) == chosen


def test_a_score_that_is_low_by_luck_does_not_go_on():
    lrs = np.geomspace(1e-4, 1e-2, 12)
    scores = {f"t{n:02d}": 1 + 0.3 * math.log10(lr / 1e-3) ** 2 for n, lr in enumerate(lrs, 2)}
    scores["t13"] -= 0.31  # the highest LR, an order of magnitude above the best, and the lowest score
    settings = {name: {"peak_lr": float(lr)} for name, lr in zip(scores, lrs, strict=True)}
    assert min(scores, key=scores.get) == "t13"
    assert choose(scores, settings, [5e-5], 13) == ["t07", "t08", "t06", "t09", "t10"]


@given(st.integers(6, 64), st.data())
def test_none_that_goes_on_has_a_higher_score_than_one_as_far_away_that_does_not(trials, data):
    scores = {f"t{n}": data.draw(st.floats(0.5, 4.0)) for n in range(2, trials + 1)}
    chosen = choose(scores, FAR, [1.0], trials)
    assert len(chosen) == trials_to_finish(trials) - 1
    assert max(scores[name] for name in chosen) <= min(scores[name] for name in scores.keys() - set(chosen))
