"""A copy is what lies in the store, without weights; what changes here goes there."""

import pytest

from tests.object_store_helpers import in_memory
from trainables.lane.store_sync import LaneStore
from trainables.storage.object_store import StoreError
from trainables.storage.working_copy import WorkingCopy, join_ledger, parent_and_name, place_of

FILES = {
    "sweep.yaml": b"name: x\n",
    "trials.jsonl": b"{}\n",
    "cache/train.arrow": b"arrow",
    "trials/t0001/curve.jsonl": b"1\n",
    "trials/t0001/checkpoints/step-8/COMPLETE": b"x",
    "trials/t0001/state/step-8/COMPLETE": b"x",
    "ledger/000001-00000001.jsonl": b'{"event":"one"}\n',
    "ledger/000001-00000002.jsonl": b'{"event":"two"}\n',
    "drivers/000001.json": b"{}",
    "driver.lock": b"{}",
}
SMALL = {"sweep.yaml", "trials.jsonl", "cache/train.arrow", "trials/t0001/curve.jsonl"}


@pytest.fixture
def copy(tmp_path):
    remote = in_memory()
    for name, data in FILES.items():
        remote.put(name, data)
    return WorkingCopy(tmp_path / "copy", remote)


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != ".copy"}


def test_it_holds_everything_but_weights_and_says_of_what_it_is_one(copy):
    copy.pull()
    assert files(copy.folder) == SMALL
    assert place_of(copy.folder) == copy.place == "s3://bucket/memory"
    assert join_ledger(copy.remote, copy.folder / "ledger.jsonl") == 2
    assert (copy.folder / "ledger.jsonl").read_text() == '{"event":"one"}\n{"event":"two"}\n'


def test_a_second_pull_fetches_what_is_new_and_removes_what_is_gone(copy, monkeypatch):
    copy.pull()
    copy.remote.put("sweep.yaml", b"name: y\n")
    copy.remote.drop("cache/train.arrow")
    (copy.folder / "left-over.json").write_text("of another sweep")
    again, fetched = WorkingCopy(copy.folder, copy.remote), []
    fetch = copy.remote.fetch
    monkeypatch.setattr(copy.remote, "fetch", lambda key, to: (fetched.append(key), fetch(key, to))[1])
    again.pull()
    assert files(copy.folder) == SMALL - {"cache/train.arrow"}
    assert (copy.folder / "sweep.yaml").read_text() == "name: y\n"
    assert sorted(fetched) == ["sweep.yaml", "trials.jsonl"]


def test_only_what_has_changed_is_uploaded(copy, monkeypatch):
    copy.pull()
    put, uploaded = copy.remote.put, []
    monkeypatch.setattr(copy.remote, "put", lambda key, data: (uploaded.append(key), put(key, data))[1])
    (copy.folder / "leaderboard.json").write_text("{}")
    for hidden in ("study.log.lock", ".partial", "ledger.jsonl"):
        (copy.folder / hidden).write_text("x")
    copy.push_top()
    copy.push_top()
    assert sorted(uploaded) == ["leaderboard.json", "trials.jsonl"]


def test_a_folder_that_is_no_copy_stays_as_it_is(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: x\n")
    copy = WorkingCopy.of(str(tmp_path), "reader")
    copy.pull()
    copy.push_top()
    copy.fetch("sweep.yaml")
    assert files(tmp_path) == {"sweep.yaml"}
    assert place_of(copy.folder) == str(tmp_path)


@pytest.mark.parametrize(
    ("place", "expected"), [("s3://b/sweeps/one/", ("s3://b/sweeps", "one")), ("/out/one", ("/out", "one"))]
)
def test_a_place_is_a_storage_path_and_a_name(place, expected):
    assert parent_and_name(place) == expected


def test_a_lane_of_a_driver_that_was_replaced_uploads_nothing(copy):
    lane, name = LaneStore(copy, epoch=1), "trials/baseline/area.jsonl"
    items = copy.folder / name
    items.parent.mkdir(parents=True)
    items.write_text("new\n")
    lane.upload(name)
    copy.remote.create("drivers/000002.json", b"{}")
    items.write_text("old\n")
    with pytest.raises(StoreError, match="must be written by the newest driver's lanes, got driver 2"):
        lane.upload(name)
    assert copy.remote.get(name) == b"new\n"
