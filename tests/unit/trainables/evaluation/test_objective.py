"""The value that is minimized, by metric."""

import math

import pytest

from trainables.evaluation.objective import Measure, objective

AREAS = {"a": {"nll": 1.0, "exact_match": 0.5, "own": 0.8}, "b": {"nll": 2.0, "exact_match": 0.1, "own": None}}
WEIGHTS = {"a": 3.0, "b": 1.0}


@pytest.mark.parametrize(
    ("metric", "value", "higher", "unit"),
    [
        ("nll", 1.25, False, "nats/token"),
        ("exact_match", 0.6, True, "of 1 in exact match"),
        ("own", math.nan, True, "of 1 in own"),
        ("token_f1", math.nan, True, "of 1 in token F1"),
    ],
)
def test_a_metric_has_a_direction_a_unit_and_a_value_that_is_minimized(metric, value, higher, unit):
    measure = Measure(metric)
    assert measure.objective(AREAS, WEIGHTS) == pytest.approx(value, nan_ok=True)
    assert (measure.higher_is_better, measure.unit) == (higher, unit)
    assert measure.turned(measure.turned(0.3)) == pytest.approx(0.3)


def test_pruning_goes_by_the_loss_and_a_missing_area_is_an_error():
    assert objective(AREAS, WEIGHTS) == 1.25
    with pytest.raises(KeyError):
        objective(AREAS, {"c": 1.0})
