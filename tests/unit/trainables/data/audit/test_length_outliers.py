import numpy as np
import pytest

from trainables.data.audit.outliers import unusual_lengths


@pytest.mark.parametrize(
    ("lengths", "odd", "unusual"),
    [
        ([10] * 60, 80, False),  # eight times the median, no more
        ([10] * 60, 81, True),
        ([100] * 60, 12, True),
        ([100] * 60, 13, False),
        (list(range(1, 61)), 400, False),  # spread widely, so far is not odd
        ([10] * 48, 1000, False),  # too few to say what is usual
        ([10, 12] * 30, 1000, True),
    ],
)
def test_only_a_clear_excess_is_unusual(lengths, odd, unusual):
    found, median = unusual_lengths(np.array([odd, *lengths]))
    assert found.tolist() == ([0] if unusual else [])
    if unusual:
        assert median == pytest.approx(np.median(lengths), rel=0.2)


def test_lengths_of_answers_with_a_long_tail_are_usual():
    draws = np.random.default_rng(0).lognormal(3, 0.8, 20_000).round().clip(1)
    found, _ = unusual_lengths(draws)
    assert len(found) < 20
