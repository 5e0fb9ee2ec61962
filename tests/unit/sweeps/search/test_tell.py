"""Predicted losses as values of the metric that decides, for Optuna."""

import pytest
from optuna.trial import create_trial

from sweeps.search.tell import PAUSED, in_deciding_metric
from trainables.evaluation.objective import Measure

TRIALS = [
    create_trial(value=0.4, intermediate_values={5: 9.0, 10: 1.0}),
    create_trial(value=0.7, intermediate_values={10: 2.0}),
    create_trial(value=0.1, intermediate_values={10: 1.6}, user_attrs={PAUSED: True}),  # predicted itself
]


@pytest.mark.parametrize(
    ("metric", "predicted", "before", "told"),
    [
        ("nll", 1.4, TRIALS, 1.4),
        ("exact_match", 1.4, TRIALS, 0.4),
        ("exact_match", 1.6, TRIALS, 0.7),
        ("exact_match", 1.4, [], None),
        ("exact_match", None, TRIALS, None),
    ],
)
def test_a_predicted_loss_counts_as_the_measured_trial_with_the_nearest_final_loss(metric, predicted, before, told):
    assert in_deciding_metric(predicted, before, Measure(metric)) == told
