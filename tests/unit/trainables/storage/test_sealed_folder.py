"""A checkpoint in a store is there when its marker is, and is what was written."""

import hashlib
import json

import pytest

from tests.object_store_helpers import in_memory
from trainables.checkpoints import checkpoint
from trainables.storage.sealed_folder import DamagedError, pull_sealed, push_sealed

KEY = "trials/t0001/checkpoints/step-8"


def sealed(folder, **files):
    with checkpoint.sealed(folder) as partial:
        for name, text in files.items():
            (partial / name).write_text(text)
    return folder


@pytest.fixture
def remote(tmp_path):
    remote = in_memory()
    push_sealed(remote, sealed(tmp_path / "first" / "step-8", weights="one", adapter="two"), KEY)
    return remote


def test_without_its_marker_it_is_not_there(remote, tmp_path):
    remote.drop(f"{KEY}/COMPLETE")
    assert not pull_sealed(remote, KEY, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_its_marker_is_uploaded_last_and_removed_first(remote, tmp_path, monkeypatch):
    put, seen = remote.put, []

    def look(key, data):
        seen.append((key.rpartition("/")[2], f"{KEY}/COMPLETE" in remote.listed()))
        return put(key, data)

    monkeypatch.setattr(remote, "put", look)
    push_sealed(remote, sealed(tmp_path / "second" / "step-8", weights="other"), KEY)
    assert seen == [("weights", False), ("checksums.json", False), ("COMPLETE", False)]
    assert f"{KEY}/adapter" not in remote.listed(), "nothing of the folder before is left"


def test_a_folder_is_fetched_whole_and_again_when_it_was_replaced_in_the_store(remote, tmp_path):
    assert pull_sealed(remote, KEY, tmp_path / "here")
    assert checkpoint.verify(tmp_path / "here").keys() == {"weights", "adapter"}
    push_sealed(remote, sealed(tmp_path / "second" / "step-8", weights="other"), KEY)
    pull_sealed(remote, KEY, tmp_path / "here")
    assert (tmp_path / "here" / "weights").read_text() == "other"


@pytest.mark.parametrize("what", ["changed", "missing", "checksums", "outside"])
def test_damage_is_seen_and_nothing_is_left_here(remote, tmp_path, what):
    checksums = json.loads(remote.get(f"{KEY}/checksums.json"))
    if what == "changed":
        remote.put(f"{KEY}/weights", b"0ne")
    elif what == "missing":
        remote.drop(f"{KEY}/adapter")
    else:
        names = {"../../out": checksums["weights"]} if what == "outside" else {**checksums, "more": "00"}
        text = json.dumps(names).encode()
        remote.put(f"{KEY}/checksums.json", text)
        if what == "outside":
            remote.put(f"{KEY}/COMPLETE", hashlib.sha256(text).hexdigest().encode() + b"\n")
    with pytest.raises(DamagedError):
        pull_sealed(remote, KEY, tmp_path / "here")
    assert list(tmp_path.glob("here*")) == []
