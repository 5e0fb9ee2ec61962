"""Which trials pause, how many go on, and what is expected of the others."""

import math

import pytest

from sweeps.config.pausing import epochs_to_train, pauses, predicted_final, trials_to_finish


@pytest.mark.parametrize(
    ("trials", "to_finish", "epochs"),
    [
        (1, 1, 1.0),
        (4, 4, 4.0),
        (5, 5, 5.0),
        (6, 4, 4.5),
        (7, 4, 4.75),
        (8, 4, 5.0),
        (12, 5, 6.75),
        (16, 6, 8.5),
        (24, 8, 12.0),
        (32, 10, 15.5),
        (64, 18, 29.5),
    ],
)
def test_a_quarter_of_the_trials_and_two_more_are_trained_to_the_end(trials, to_finish, epochs):
    assert trials_to_finish(trials) == to_finish
    assert epochs_to_train(trials) == epochs
    assert [number for number in range(1, trials + 1) if pauses(number, trials)] == (
        list(range(2, trials + 1)) if to_finish < trials else []
    )


@pytest.mark.parametrize(
    ("falls", "final"), [({}, 1.5), ({"t1": 0.4}, 1.1), ({"t1": 0.4, "t5": 0.2}, 1.2), ({"t1": math.nan}, 1.5)]
)
def test_a_paused_trial_is_expected_to_fall_as_finished_ones_did(falls, final):
    assert predicted_final(1.5, falls) == pytest.approx(final)
