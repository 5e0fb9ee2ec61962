"""Sweeps that are deleted, and single trials that are dropped: only what is the user's own, and nothing that runs."""

import json
import shutil

import pytest

from sweeps.config.paths import with_absolute_paths
from sweeps.config.sweep_config import dump_config, load_config
from sweeps.folder.dropped_trials import asked_to_drop
from sweeps.ledger.ledger import Ledger
from sweeps.service.queue.entries import REMOVED
from sweeps.service.queue.queue import Queue
from sweeps.service.runs.removal import Removal
from sweeps.service.runs.runner import is_of
from tests.unit.sweeps.service.conftest import files, sent


@pytest.fixture
def first(service):
    """A sweep of ada's with a folder; its entry is queued."""
    service.client("ada").post("/sweeps", json=sent(client_id="x"))
    folder = service.storage / "first"
    shutil.copytree(service.storage / "old", folder)
    shutil.copy(service.queue.config(service.queue.get("first")), folder / "sweep.yaml")
    return folder


def begin(service):
    return service.queue.record("starting", "first", attempt=1, before=0)


def end(service, hours=2.0):
    service.queue.record("ended", "first", outcome="complete", error="", device_seconds=3600 * hours)


def test_a_deleted_sweep_is_gone_its_name_is_free_and_its_hours_count(service, first):
    ada = service.client("ada")
    begin(service)
    assert ada.delete("/sweeps/first").status_code == 409
    end(service)
    assert ada.delete("/sweeps/first").json() == {"id": "first", "state": "removed"}
    assert not first.exists()
    assert list((service.folder / "removed").iterdir()) == []
    assert [row["name"] for row in ada.get("/sweeps").json()] == ["old"]
    assert ada.get("/queue").json() == []
    assert ada.delete("/sweeps/first").status_code == 404
    assert ada.post("/sweeps", json=sent(client_id="x")).json()["state"] == REMOVED  # sent again: nothing twice
    assert ada.post("/sweeps", json=sent(client_id="y")).status_code == 201
    again = Queue(service.folder)
    assert [(one.name, one.state, one.device_seconds) for one in again.entries.values()] == [
        ("first", "removed", 7200.0), ("first", "queued", 0.0)]  # fmt: skip


def test_a_folder_that_is_not_the_entrys_stays(service, first):
    (first / "sweep.yaml").write_text("name: first\n")
    before = files(service)
    assert service.client("ada").delete("/sweeps/first").status_code == 200
    assert {path: text for path, text in before.items() if "/first/" in path}.items() <= files(service).items()
    assert service.client("ada").delete("/sweeps/first").status_code == 409  # a sweep of the command line


def test_a_folder_whose_paths_the_sweep_has_made_absolute_is_the_entrys(service, first):
    entry, path = service.queue.get("first"), first / "sweep.yaml"
    config = with_absolute_paths(load_config(path))
    assert config.data.train.startswith("/")
    path.write_text(dump_config(config))
    assert path.read_bytes() != service.queue.config(entry).read_bytes()
    assert is_of(entry, service.storage, service.queue)
    path.write_text(dump_config(config.model_copy(update={"seed": 7})))
    assert not is_of(entry, service.storage, service.queue)


def test_a_folder_that_a_driver_holds_stays(service, first):
    from sweeps.folder.driver_lock import one_driver

    with one_driver(first):
        answer = service.client("ada").delete("/sweeps/first")
    assert (answer.status_code, first.is_dir()) == (409, True)


def test_a_kill_between_the_folder_and_the_log_leaves_what_can_be_deleted(service, first, monkeypatch):
    monkeypatch.setattr(service.queue, "record", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Removal(service.queue, service.storage).remove(service.queue.get("first"), "ada")
    assert not first.exists()
    queue = Queue(service.folder)
    removal = Removal(queue, service.storage)
    assert not (service.folder / "removed").exists()
    assert removal.remove(queue.get("first"), "ada").state == REMOVED


def test_a_trial_of_the_running_search_is_dropped_by_a_file_that_the_driver_reads(service, first):
    ada, place = service.client("ada"), "/sweeps/first/trials/t0002/stop"
    assert ada.post(place, json={}).status_code == 409  # it does not run
    begin(service)
    lines = (first / "trials.jsonl").read_text().splitlines()
    (first / "trials.jsonl").write_text("".join(line + "\n" for line in lines if "t0002" not in line[:40]))
    ledger = Ledger(first, epoch=9)
    for trial_id, kind in (("t0002", "search"), ("t0003", "replicate")):
        ledger.append("trial_submitted", spec={"trial_id": trial_id, "kind": kind})
    assert service.client("bob").post(place, json={}).status_code == 403
    assert asked_to_drop(first) == {}
    assert ada.post(place, json={}).json() == {"id": "first", "trial": "t0002", "asked": "stop"}
    assert ada.post(place, json={}).status_code == 200
    assert asked_to_drop(first) == {"t0002": "ada"}
    for trial, status in (("t0001", 409), ("baseline", 409), ("t9", 404), ("..%2fx", 404)):
        answer = ada.post(f"/sweeps/first/trials/{trial}/stop", json={})
        assert answer.status_code == status, answer.text
    assert json.loads((first / "dropped" / "t0002.json").read_text()) == {"user": "ada"}
