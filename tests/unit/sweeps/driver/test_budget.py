"""Device-hours: what is held counts, and a forecast needs something measured."""

import pytest

from sweeps.driver.budget import Budget, trials_done


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_every_held_device_counts_and_so_do_earlier_starts_until_the_cap_is_spent():
    clock = Clock()
    budget = Budget(devices=4, cap_hours=None, before_hours=1.5, clock=clock)
    clock.seconds = 1800.0
    assert budget.spent_hours() == pytest.approx(1.5 + 4 * 0.5)
    assert not budget.is_spent()
    capped = Budget(devices=2, cap_hours=1.0, clock=clock)
    for seconds, is_spent in ((3599.0, False), (3600.0, True)):
        clock.seconds = seconds
        assert capped.is_spent() is is_spent


def test_lanes_that_come_and_go_count_while_they_are_there():
    clock = Clock()
    budget = Budget(devices=4, cap_hours=None, clock=clock)
    clock.seconds = 1800.0
    budget.hold(1)
    budget.search_begins()
    clock.seconds += 3600.0
    budget.hold(8)
    clock.seconds += 900.0
    budget.hold(0)
    clock.seconds += 7200.0
    assert budget.spent_hours() == pytest.approx(4 * 0.5 + 1 + 8 * 0.25)
    assert budget.forecast_hours(3.0, 4) == pytest.approx(4 * 0.5 + 3 + 1)


def test_the_forecast_is_what_was_spent_and_the_measured_speed_for_the_rest():
    clock = Clock()
    budget = Budget(devices=1, cap_hours=None, clock=clock)
    clock.seconds = 360.0  # the lanes start and the base model is scored
    assert budget.forecast_hours(1.0, 10) is None, "the search has not begun"
    budget.search_begins()
    clock.seconds += 720.0
    assert budget.forecast_hours(0.01, 10) is None, "too little is measured"
    assert budget.forecast_hours(2.0, 10) == pytest.approx((360 + 720 + 8 * 360) / 3600)
    assert budget.forecast_hours(10.0, 10) == pytest.approx(budget.spent_hours())


def test_a_running_trial_counts_by_its_part_of_the_epoch():
    jobs = {
        "t1": {"state": "ended", "step": 10, "steps": 10, "end": {"state": "complete"}},
        "t2": {"state": "running", "step": 5, "steps": 20, "end": None},
        "t3": {"state": "queued", "end": None},
        "t4": {"state": "ended", "step": 5, "steps": 20, "end": {"state": "paused"}},
        "t5": {"state": "ended", "step": 5, "steps": 20, "end": {"state": "pruned"}},
    }
    assert trials_done(jobs) == 2.5
