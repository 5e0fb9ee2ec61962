"""What a lane brings of a trial that goes on, from a store."""

import json

import pytest

from tests.object_store_helpers import in_memory
from trainables.checkpoints import checkpoint
from trainables.lane.store_sync import LaneStore
from trainables.storage.sealed_folder import DamagedError
from trainables.storage.working_copy import WorkingCopy
from trainables.storage.writer_lock import OvertakenError

TRIAL = "trials/t0001"


@pytest.fixture
def lane(tmp_path):
    lane = LaneStore(WorkingCopy(tmp_path, in_memory()), epoch=1)
    lane.fetch_trial("t0001", "state", writes=True)
    return lane


def state(lane, step):
    """A state that the lane has kept at a step."""
    folder = lane.copy.folder / TRIAL / "state" / f"step-{step}"
    with checkpoint.sealed(folder) as partial:
        (partial / "meta.json").write_text(json.dumps({"step": step}))
    return folder


def states(lane):
    return sorted({key.split("/")[3] for key in lane.copy.remote.listed(f"{TRIAL}/state")})


def test_a_state_that_is_in_the_store_takes_the_place_of_the_one_before(lane):
    for step in (8, 16):
        folder = state(lane, step)
        lane.upload_sealed(folder)
        lane.drop_earlier(folder)
        assert not folder.exists(), "it lies in the store, and need not lie here"
    assert states(lane) == ["step-16"]


@pytest.mark.parametrize(
    ("harm", "step"),
    [("none", 16), ("no marker", 8), ("changed", 8), ("both changed", None)],
)
def test_a_trial_goes_on_from_the_latest_state_that_is_whole(lane, harm, step):
    remote = lane.copy.remote
    for one in (8, 16):
        lane.upload_sealed(state(lane, one))
    remote.put(f"{TRIAL}/curve.jsonl", b"line\n")
    if harm == "no marker":
        remote.drop(f"{TRIAL}/state/step-16/COMPLETE")
    if "changed" in harm:
        remote.put(f"{TRIAL}/state/step-16/meta.json", b"{}")
    if harm == "both changed":
        remote.put(f"{TRIAL}/state/step-8/meta.json", b"{}")
    left = lane.copy.folder / TRIAL / "heldout.jsonl"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("of an attempt that was not reported\n")
    lane.fetch_trial("t0001", "state", writes=True)
    brought = sorted(path.name for path in (lane.copy.folder / TRIAL).glob("state/step-*"))
    assert brought == ([] if step is None else [f"step-{step}"])
    assert (lane.copy.folder / TRIAL / "curve.jsonl").read_text() == "line\n"
    assert not left.exists(), "what counts lies in the store"


@pytest.mark.parametrize("epoch", [1, 2], ids=["another lane of the driver", "a newer driver's lane"])
def test_an_attempt_that_was_overtaken_uploads_nothing(lane, tmp_path, epoch):
    curve = lane.copy.folder / TRIAL / "curve.jsonl"
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("1\n")
    lane.upload_trial("t0001")
    LaneStore(WorkingCopy(tmp_path / "other", lane.copy.remote), epoch).fetch_trial("t0001", "state", writes=True)
    curve.write_text("of the one before\n")
    for upload in (lambda: lane.upload_trial("t0001"), lambda: lane.upload_sealed(state(lane, 8))):
        with pytest.raises(OvertakenError):
            upload()
    assert lane.copy.remote.get(f"{TRIAL}/curve.jsonl") == b"1\n"
    assert list(lane.copy.remote.listed(f"{TRIAL}/state")) == []


def test_an_older_drivers_lane_does_not_begin_a_trial_of_a_newer_one(lane, tmp_path):
    LaneStore(WorkingCopy(tmp_path / "other", lane.copy.remote), 2).fetch_trial("t0001", "state", writes=True)
    with pytest.raises(OvertakenError, match="driver 2 has taken over"):
        lane.fetch_trial("t0001", "state", writes=True)


def test_a_checkpoint_that_is_not_there_is_an_error(lane):
    with pytest.raises(DamagedError, match="there is no COMPLETE"):
        lane.fetch_sealed(f"{TRIAL}/checkpoints/step-8")


def test_another_worker_of_the_lane_uploads_its_part_of_a_state_until_the_attempt_is_overtaken(lane, tmp_path):
    other = LaneStore(WorkingCopy(tmp_path / "other", lane.copy.remote), epoch=1)
    other.fetch_trial("t0001", "state/rank-1-of-2", writes=False)
    other.follow("t0001")
    for step in (8, 16):
        folder = other.copy.folder / TRIAL / "state/rank-1-of-2" / f"step-{step}"
        with checkpoint.sealed(folder) as partial:
            (partial / "meta.json").write_text(json.dumps({"step": step}))
        other.upload_sealed(folder)
    assert parts(lane) == ["step-16", "step-8"]
    # The first worker may lack its part of the later one.
    again = LaneStore(WorkingCopy(tmp_path / "again", lane.copy.remote), epoch=1)
    again.fetch_trial("t0001", "state/rank-1-of-2", writes=False, all_states=True)
    assert sorted(path.name for path in (again.copy.folder / TRIAL).glob("state/*/step-*")) == ["step-16", "step-8"]
    other.drop_earlier(folder)
    assert parts(lane) == ["step-16"]
    lane.fetch_trial("t0001", "state/rank-0-of-2", writes=True)
    with pytest.raises(OvertakenError):
        other.upload_sealed(folder)


def parts(lane):
    return sorted({key.split("/")[4] for key in lane.copy.remote.listed(f"{TRIAL}/state/rank-1-of-2")})
