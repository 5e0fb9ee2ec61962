"""How many trials a lane trains side by side."""

import pytest

from tests.unit.trainables.training.helpers import lane, load_tiny, memory_for
from trainables.packing import autotune
from trainables.packing.autotune import Slots, measure_slots


@pytest.fixture(scope="module")
def data(samples):
    return samples(16)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 1.0}, 2),
        ({1: 1.0, 2: 1.95}, 1),  # 2.6 % more throughput is not worth it
        ({1: 1.0, 2: 1.9, 4: 3.7}, 2),
        ({1: 1.0, 2: 1.2, 4: 2.2, 8: 4.6}, 4),
        ({1: 1.0, 2: 2.5}, 1),
    ],
)
def test_the_choice_is_where_throughput_stops_rising(base, data, monkeypatch, seconds, chosen):
    monkeypatch.setattr(autotune, "_step_seconds", lambda pack, *_: seconds.get(len(pack.slots)))
    found = measure_slots(base, data, lane(), "auto")
    assert found == Slots(chosen, None, seconds)
    assert found.speed_up == pytest.approx(chosen * seconds[1] / seconds[chosen])


def test_it_is_measured_on_the_sweeps_own_samples_and_leaves_the_base_as_it_was(base, data):
    names = list(base.untouched().state_dict())
    found = measure_slots(base, data, lane(), "auto")
    assert found.slots in found.seconds_per_step
    assert all(seconds > 0.0 for seconds in found.seconds_per_step.values())
    assert list(base.untouched().state_dict()) == names


def test_memory_ends_the_search_and_room_is_left_in_it(base, data, monkeypatch):
    memory_for(2, monkeypatch)
    monkeypatch.setattr(autotune, "WORTH", 0.0)  # whatever this machine measures
    assert list(measure_slots(base, data, lane(), "auto").seconds_per_step) == [1, 2]
    monkeypatch.setattr(autotune, "_memory_used", lambda device: 0.95)
    assert measure_slots(base, data, lane(), "auto") == Slots(1, None, {})


@pytest.mark.parametrize("asked", [6, "auto"])
def test_what_cannot_be_packed_is_trained_one_after_another(tiny, base, data, asked):
    assert measure_slots(load_tiny(tiny, "full"), data, lane("full"), asked) == Slots(1, "all weights are trained", {})
    assert measure_slots(base, data, lane(), 6) == Slots(6, None, {})
