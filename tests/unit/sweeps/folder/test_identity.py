"""A sweep has one id for life, and remembers its parent wherever that has gone."""

import json

import pytest

from sweeps.config.sweep_config import load_config
from sweeps.folder.identity import check_parent, identify
from sweeps.ledger.ledger import Ledger
from sweeps.submit.job_package import pack
from trainables.errors import UserErrors


def config(tmp_path, parent=None):
    more = [f"parent={parent}"] if parent else []
    return load_config("conf/smoke.yaml", [f"storage_path={tmp_path}", "name=child", *more])


@pytest.fixture
def parent(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "sweep.yaml").write_text("name: first\n")
    (folder / "manifest.json").write_text(json.dumps({"sweep_id": "0123456789ab"}))
    return folder


def test_a_parent_is_a_sweep_or_an_id(tmp_path, parent):
    assert check_parent(config(tmp_path)) == []
    assert check_parent(config(tmp_path, parent)) == []
    assert check_parent(config(tmp_path, "first@0123456789ab")) == []
    (missing,) = check_parent(config(tmp_path, tmp_path / "nowhere"))
    assert str(missing).startswith("parent: must be a sweep's folder or URL, or its NAME@ID, got ")
    own = config(tmp_path, tmp_path / "child")
    own.folder.mkdir()
    (own.folder / "sweep.yaml").write_text("name: child\n")
    assert [error.where for error in check_parent(own)] == ["parent"]


def test_sweeps_have_ids_of_their_own_and_what_the_first_start_recorded_stands(tmp_path, parent):
    assert len({identify(config(tmp_path), Ledger(tmp_path))["sweep_id"] for _ in range(20)}) == 20
    given = config(tmp_path, parent)
    given.folder.mkdir()
    ledger = Ledger.of_new_driver(given.folder)
    first = identify(given, ledger)
    assert first["parent"] == {"name": "first", "id": "0123456789ab", "folder": str(parent)}
    ledger.append("sweep_started", **first)
    (parent / "manifest.json").unlink()
    assert identify(given, Ledger.of_new_driver(given.folder)) == first


def test_a_job_is_sent_no_relative_parent(tmp_path):
    (tmp_path / "parcel").mkdir()
    with pytest.raises(UserErrors, match="parent: must be NAME@ID, or absolute, for a job on a cluster, got outputs/x"):
        pack(config(tmp_path, "outputs/x"), tmp_path / "parcel")
