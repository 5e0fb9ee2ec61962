"""Two drivers on one folder: the second is refused, whoever holds the lock; a killed one holds nothing."""

import os
import subprocess
import sys
import threading
import time

import pytest

from sweeps.folder import driver_lock
from sweeps.folder.driver_lock import one_driver
from trainables.errors import UserError
from trainables.storage.layout import LOCK_FILE

HOLD = """
import pathlib, subprocess, sys, time
from sweeps.folder.driver_lock import one_driver
with one_driver(pathlib.Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path` and has a child, and the child's id."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.wait()
    os.kill(child, 9)


def test_a_second_driver_is_refused_until_the_first_is_killed_though_its_child_lives_on(holder, tmp_path):
    process, child = holder
    with pytest.raises(UserError) as caught, one_driver(tmp_path):
        pass
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}: must have one driver at a time, got process {process.pid} on ")
    assert line.endswith("; wait for its end, or stop it")
    process.kill()
    process.wait()
    os.kill(child, 0)
    started = time.monotonic()
    with one_driver(tmp_path):
        assert time.monotonic() - started < 5


def test_the_lock_of_another_machine_is_waited_for(holder, tmp_path, monkeypatch, caplog):
    """A network file system keeps the locks of a machine that was lost for a while."""
    process, _ = holder
    monkeypatch.setattr(driver_lock, "LOOK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(driver_lock.socket, "gethostname", lambda: "another")
    with pytest.raises(UserError, match=f"got process {process.pid} on "), one_driver(tmp_path, 0.2):
        pass
    assert caplog.text.count("waiting up to 0.2 s") == 1
    ends = threading.Timer(0.3, process.kill)
    ends.start()
    with one_driver(tmp_path, 60.0):
        ends.join()


def test_the_lock_follows_a_folder_that_is_renamed_and_one_that_cannot_be_locked_is_a_users_error(tmp_path):
    (tmp_path / "draft").mkdir()
    with one_driver(tmp_path / "draft"):
        (tmp_path / "draft").rename(tmp_path / "sweep")
        with pytest.raises(UserError, match="one driver at a time"), one_driver(tmp_path / "sweep"):
            pass
    with one_driver(tmp_path / "sweep"):
        pass
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(UserError, match=r"driver.lock: must be writable, got Is a directory"), one_driver(tmp_path):
        pass
