"""One driver at a time in an object store: who holds the lock, who may take it, and who learns that it is lost."""

import itertools
import json
import logging
import subprocess
import sys
import time

import pytest

from sweeps.folder import driver_lock_in_store
from sweeps.folder.driver_lock_in_store import one_driver_in_store
from trainables.errors import UserError
from trainables.storage.layout import LOCK_FILE
from trainables.storage.object_store import Remote


@pytest.fixture
def remote(store_url):
    return Remote(store_url)


def held_by(remote, **what):
    """A lock that another process has taken just now."""
    holder = {"token": "other", "pid": 1, "host": "far", "machine": "far 1", "since": "today", "beat": 3}
    remote.put(LOCK_FILE, json.dumps({**holder, "released": False, **what}).encode())


def holder(remote):
    return json.loads(remote.get(LOCK_FILE))


def test_a_second_driver_is_refused_in_one_line_and_the_next_is_not(remote):
    with one_driver_in_store(remote), pytest.raises(UserError) as caught, one_driver_in_store(remote):
        pass
    assert str(caught.value).startswith(f"{remote.url}: must have one driver at a time, got process ")
    assert len(str(caught.value).splitlines()) == 1
    assert holder(remote)["released"]
    with one_driver_in_store(remote), one_driver_in_store(None):  # a sweep in a folder needs none
        assert not holder(remote)["released"]


@pytest.mark.parametrize(
    ("lock", "stale_seconds", "is_taken"),
    [
        ({}, -1.0, True),
        ({}, 1.5, True),
        ({"released": True}, 120.0, True),
        ({"machine": "this", "pid": "ended"}, 120.0, True),
        ({"machine": "this", "pid": "alive"}, 120.0, False),
        ({"machine": "far 2", "pid": "ended"}, 120.0, False),
    ],
    ids=["stale", "soon stale", "released", "killed here", "alive here", "renewed on another machine"],
)
def test_a_lock_is_taken_when_its_holder_is_gone(remote, monkeypatch, lock, stale_seconds, is_taken):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pids = {"ended": ended.pid, "alive": subprocess.os.getpid()}
    named = {**lock, "pid": pids.get(lock.get("pid"), 1)}
    if lock.get("machine") == "this":
        named["machine"] = driver_lock_in_store._machine()
    held_by(remote, **named)
    monkeypatch.setattr(driver_lock_in_store, "STALE_SECONDS", stale_seconds)
    monkeypatch.setattr(driver_lock_in_store, "LOOK_EVERY_SECONDS", 0.1)
    beats, may_be_taken = itertools.count(4), driver_lock_in_store._may_be_taken

    def and_it_is_renewed(*arguments):
        may = may_be_taken(*arguments)
        held_by(remote, **named, beat=next(beats))
        return may

    if not is_taken:
        monkeypatch.setattr(driver_lock_in_store, "_may_be_taken", and_it_is_renewed)
    if is_taken:
        with one_driver_in_store(remote):
            assert holder(remote)["token"] != "other"
        return
    with pytest.raises(UserError, match=r"got process .* on far since today"), one_driver_in_store(remote):
        pass
    assert holder(remote)["token"] == "other"


def test_of_two_that_take_a_stale_lock_one_gets_it(remote, monkeypatch):
    held_by(remote, released=True)
    may_be_taken = driver_lock_in_store._may_be_taken

    def and_another_is_quicker(*arguments):
        held_by(remote, token="quicker")
        return may_be_taken(*arguments)

    monkeypatch.setattr(driver_lock_in_store, "_may_be_taken", and_another_is_quicker)
    with pytest.raises(UserError, match="another that began just now"), one_driver_in_store(remote):
        pass
    assert holder(remote)["token"] == "quicker"


def test_a_lock_is_renewed_until_another_has_it(remote, monkeypatch, caplog):
    monkeypatch.setattr(driver_lock_in_store, "RENEW_SECONDS", 0.05)

    def wait_for(ready):
        deadline = time.monotonic() + 30
        while not ready():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with caplog.at_level(logging.WARNING), one_driver_in_store(remote):
        wait_for(lambda: holder(remote)["beat"] >= 2)
        held_by(remote)
        wait_for(lambda: "another driver has taken over" in caplog.text)
    assert holder(remote)["token"] == "other", "a driver that lost its lock does not release another's"
