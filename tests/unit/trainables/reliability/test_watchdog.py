"""The watchdog: a silence ends the process and tells where it stood; having nothing to do does not."""

import threading
import time

import pytest

from trainables.reliability import watchdog
from trainables.reliability.watchdog import Watchdog, auto_limit


@pytest.fixture
def dog():
    told, ended = [], threading.Event()
    found = Watchdog(0.2, told.append, lambda code: ended.set())
    found.told, found.ended = told, ended
    found.start()
    return found


def test_a_step_that_hangs_is_told_with_every_stack(dog):
    def hanging_step():
        assert dog.ended.wait(10)

    with dog.on_duty():
        watchdog.step_done()
        hanging_step()
    (text,) = dog.told
    assert "in hanging_step" in text
    assert text.splitlines()[-1].startswith("hung: no step, scoring batch or write got done for 0 s, more than 0 s")


def test_beats_keep_it_quiet_and_so_does_having_nothing_to_do(dog):
    assert not dog.ended.wait(0.5)  # not on duty
    with dog.on_duty():
        for _ in range(10):
            time.sleep(0.05)
            watchdog.beat()
        assert dog.ended.wait(10)  # and then nothing


@pytest.mark.parametrize(
    ("step_seconds", "limit"), [([], 600), ([1.0, 2.0, 300.0], 600), ([20.0, 30.0, 40.0], 1500), ([20.0] * 9, 1000)]
)
def test_the_limit_follows_the_median_step_above_a_floor(step_seconds, limit):
    assert auto_limit(step_seconds) == limit
