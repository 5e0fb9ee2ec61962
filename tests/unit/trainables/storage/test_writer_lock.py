"""Two attempts at one trial, and who of them may write."""

import json

import pytest

from trainables.lane.trial_files import TrialFiles
from trainables.storage.writer_lock import OvertakenError


def attempt(folder, driver_epoch=1):
    return TrialFiles(folder, writes=True, driver_epoch=driver_epoch)


def test_an_attempt_that_was_given_up_for_lost_writes_no_line_after_the_next_has_begun(tmp_path):
    lost, current = attempt(tmp_path), attempt(tmp_path)
    lost.begin(0)
    lost.add_items(['{"step": 1}\n'])
    assert current.begin(1) == ([], [{"step": 1}])
    with pytest.raises(OvertakenError, match="another attempt at this trial has begun"):
        lost.add_items(['{"step": 2}\n'])
    current.add_items(['{"step": 2}\n'])
    assert [json.loads(line)["step"] for line in (tmp_path / "heldout.jsonl").open()] == [1, 2]


@pytest.mark.parametrize(("first", "second", "taken"), [(1, 1, True), (1, 2, True), (2, 1, False)])
def test_an_older_drivers_attempt_takes_nothing_from_a_newer_ones(tmp_path, first, second, taken):
    earlier, later = attempt(tmp_path, first), attempt(tmp_path, second)
    earlier.begin(0)
    if taken:
        later.begin(0)
        with pytest.raises(OvertakenError):
            earlier.add_items([])
    else:
        with pytest.raises(OvertakenError, match="driver 2 has taken over from 1"):
            later.begin(0)
        earlier.add_items([])


def test_what_a_worker_left_that_was_killed_while_it_cut_goes(tmp_path):
    (tmp_path / ".curve.jsonl.123").touch()
    attempt(tmp_path).begin(0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curve.jsonl",
        "heldout.jsonl",
        "speed.jsonl",
        "writer.json",
    ]
