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


@pytest.mark.parametrize(
    ("sweep_id", "stays"),
    [("0776c628e1da", False), ("another", True), ("", False)],
    ids=["its own", "another's", "a log of an earlier version"],
)
def test_a_folder_that_was_made_anew_by_hand_after_a_resume_stays(service, first, sweep_id, stays):
    """The same name, but another sweep's id: the folder of the service's sweep was deleted, and another one begun."""
    (first / "sweep.yaml").write_text((first / "sweep.yaml").read_text().replace("seed: 0", "seed: 7"))
    service.queue.record("starting", "first", attempt=2, before=123, sweep_id=sweep_id)
    end(service)
    assert is_of(Queue(service.folder).get("first"), service.storage, service.queue) is not stays
    assert service.client("ada").delete("/sweeps/first").status_code == 200
    assert first.exists() is stays


def test_a_sweep_under_the_name_of_a_refused_one_is_its_own(service, first):
    service.queue.record("ended", "first", outcome="refused", error="error: no", device_seconds=0.0)
    (first / "sweep.yaml").write_text((service.storage / "old" / "sweep.yaml").read_text())
    service.client("ada").get("/sweeps/first")
    row = service.client("bob").get("/sweeps/first").json()
    assert (row["user"], row["queue"], row["error"], row["state"]) == (None, None, None, "interrupted")
    body = {"name": "copy", "plan_only": True}
    changes = service.client("ada").post("/sweeps/first/clone", json=body).json()["changes"]
    assert changes["name"] == [
        (service.storage / "old" / "sweep.yaml").read_text().split("name: ")[1].split()[0],
        "copy",
    ]


DAMAGED = [("{", 422), ("[]", 422), ("[" * 100_000, 422), (None, 200)]


@pytest.mark.parametrize(("content", "status"), DAMAGED, ids=["cut", "list", "deep", "gone"])
def test_a_request_repeated_whose_plan_is_damaged_is_no_error_of_the_server(service, content, status):
    ada = service.client("ada")
    ada.post("/sweeps", json=sent(client_id="x"))
    path = service.folder / "sent" / f"{service.queue.get('first').key}.plan.json"
    path.unlink() if content is None else path.write_text(content)
    assert ada.post("/sweeps", json=sent(client_id="x")).status_code == status


@pytest.mark.parametrize("content", [b"\xff", b"[" * 50_000, b"objective: ${oc.env:HOME}", b""])
def test_a_clone_of_a_damaged_config_is_refused(service, content):
    (service.storage / "old" / "sweep.yaml").write_bytes(content)
    answer = service.client("ada").post("/sweeps/old/clone", json={"name": "copy"})
    assert (answer.status_code, service.queue.entries) == (422, {})


def test_an_id_that_the_log_would_hide_is_refused(service):
    """After a restart the log's id would be another, and the request repeated a sweep of its own."""
    answer = service.client("ada").post("/sweeps", json=sent(client_id="sk-" + "a" * 24))
    assert (answer.status_code, "aaaa" in answer.text, service.queue.entries) == (422, False, {})


def test_trials_of_a_linked_folder_are_not_listed(service):
    trials = service.storage / "old" / "trials"
    shutil.rmtree(trials)
    trials.symlink_to("/")
    reed = service.client("reed")
    assert reed.get("/sweeps/old").json()["trial_ids"] == []
    assert '"etc"' not in reed.get("/sweeps/old/events").text
