"""Was the recommended setting enough?"""

import pytest

from analysis.stats.worthwhile import recommended_outcome


@pytest.mark.parametrize(
    ("is_best", "interval", "outcome"),
    [
        (True, None, "best"),
        (True, [0.0, 0.5], "best"),
        (False, None, "unknown"),
        (False, [-0.02, 0.01], "enough"),
        (False, [-0.02, 0.011], "unknown"),
        (False, [0.009, 0.3], "unknown"),
        (False, [0.01, 0.3], "unknown"),
        (False, [0.0101, 0.3], "beaten"),
        (False, [-0.4, -0.2], "enough"),
    ],
)
def test_a_lead_counts_when_all_of_its_interval_is_worth_having(is_best, interval, outcome):
    assert recommended_outcome(is_best, interval, 0.01) == outcome
