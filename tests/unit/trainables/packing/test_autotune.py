"""How many trials a lane trains side by side."""

import pytest

from tests.unit.trainables.training.helpers import lane, load_tiny, memory_for
from trainables.packing import autotune
from trainables.packing.autotune import Slots, fastest, is_over, measure_slots


@pytest.fixture(scope="module")
def data(samples):
    return samples(16)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({}, 1),  # nothing fits
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.0}, 2),
        ({1: 1.0, 2: 1.95}, 1),  # 2.6 % more throughput is not worth it
        ({1: 1.0, 2: 1.9, 4: 3.7}, 2),
        ({1: 1.0, 2: 1.86, 4: 3.7, 8: 4.02}, 8),  # one slow moment does not end the search
        ({1: 1.0, 2: 1.2, 4: 2.2, 8: 4.6}, 4),
        ({1: 1.0, 2: 1.2, 4: 2.2, 8: 4.3}, 4),  # 2 % more than with half as many
        ({1: 1.0, 2: 2.5}, 1),
    ],
)
def test_the_fewest_slots_of_about_the_highest_throughput_are_chosen(seconds, chosen):
    assert fastest(seconds) == chosen


@pytest.mark.parametrize(
    ("seconds", "over"),
    [
        ({1: 1.0}, False),
        ({1: 1.0, 2: 2.5}, False),  # may have been a slow moment
        ({1: 1.0, 2: 2.5, 4: 5.0}, True),
        ({1: 1.0, 2: 1.2, 4: 2.4}, False),
        ({1: 1.0, 2: 1.2, 4: 2.4, 8: 4.7}, True),
        ({1: 1.0, 2: 1.2, 4: 2.4, 8: 4.0}, False),
    ],
)
def test_the_search_ends_after_two_numbers_that_are_not_worth_it(seconds, over):
    assert is_over(seconds) is over


def test_slots_are_measured_until_the_search_is_over(base, data, monkeypatch):
    seconds = {1: 1.0, 2: 1.86, 4: 3.7, 8: 4.02, 16: 8.5}
    monkeypatch.setattr(autotune, "_step_seconds", lambda pack, *_: seconds.get(len(pack.slots)))
    found = measure_slots(base, data, lane(), "auto")
    assert found == Slots(8, None, seconds)
    assert found.speed_up == pytest.approx(8 / 4.02)


def test_it_is_measured_on_the_sweeps_own_samples_and_leaves_the_base_as_it_was(base, data):
    names = list(base.untouched().state_dict())
    found = measure_slots(base, data, lane(), "auto")
    assert found.slots in found.seconds_per_step
    assert all(seconds > 0.0 for seconds in found.seconds_per_step.values())
    assert list(base.untouched().state_dict()) == names


def test_memory_ends_the_search_and_room_is_left_in_it(base, data, monkeypatch):
    memory_for(2, monkeypatch)
    assert list(measure_slots(base, data, lane(), "auto").seconds_per_step) == [1, 2]
    monkeypatch.setattr(autotune, "_memory_used", lambda device: 0.95)
    assert measure_slots(base, data, lane(), "auto") == Slots(1, None, {})


@pytest.mark.parametrize("asked", [6, "auto"])
def test_what_cannot_be_packed_is_trained_one_after_another(tiny, base, data, asked):
    assert measure_slots(load_tiny(tiny, "full"), data, lane("full"), asked) == Slots(1, "all weights are trained", {})
    assert measure_slots(base, data, lane(), 6) == Slots(6, None, {})
