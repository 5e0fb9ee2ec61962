"""What the service shows of a sweep: costs in the report's words, trials that are trained again, files read once."""

import json

import pytest

from sweeps.ledger.ledger import Ledger
from sweeps.service.view import trials
from sweeps.service.view.trials import FILES_KEPT, Kept
from sweeps.service.view.view import View
from tests.unit.sweeps.service.conftest import sent


def test_costs_are_in_the_reports_words_and_in_money_where_a_device_hour_has_a_price(service):
    ada = service.client("ada")
    overrides = ("resources.price_per_device_hour=2.5", "budget.device_hours=4")
    assert ada.post("/sweeps", json=sent("priced", *overrides)).status_code == 201
    folder = service.storage / "priced"
    folder.mkdir()
    (folder / "sweep.yaml").write_bytes(service.queue.config(service.queue.get("priced")).read_bytes())
    (folder / "trials.jsonl").write_text('{"trial_id": "t0001", "cost": {"device_seconds": 11520}}\n')
    service.queue.record("starting", "priced", attempt=1, before=0)
    row = ada.get("/sweeps/priced").json()
    assert row["cost"] == "3.20 device-hours (8.00 at 2.5 each)"
    assert row["forecast_cost"] == "4.00 device-hours (10.00 at 2.5 each)"
    page = ada.get("/page/sweeps/priced").text
    assert row["cost"] in page
    assert f"of {row['forecast_cost']} forecast" in page
    assert "forecast 4.00 device-hours" in ada.get("/").text


@pytest.mark.parametrize(
    ("events", "state"),
    [
        (["trial_submitted", "trial_ended"], "failed"),
        (["trial_submitted", "trial_ended", "trial_submitted"], ""),
        (["trial_submitted", "trial_ended", "trial_submitted", "trial_ended"], "failed"),
    ],
)
def test_a_failed_trial_that_is_trained_again_has_not_ended(service, events, state):
    folder = service.storage / "old"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "state": "running"}))
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"trial_id": "t0002", "state": "failed"}\n')
    (folder / "ledger.jsonl").unlink(missing_ok=True)
    ledger = Ledger(folder, epoch=9)
    for event in events:
        about = {"trial_id": "t0002", "state": "failed", "kind": "search"}
        ledger.append(event, **{"spec" if event == "trial_submitted" else "trial": about})
    view = View(service.storage, service.queue)
    shown = view._look("old")
    assert shown["trial_states"]["t0002"] == state
    assert shown["trial_states"]["t0001"] == "complete"
    assert set(shown["trial_states"]) == set(shown["curve_bytes"]) - {"baseline"}


@pytest.mark.parametrize(
    ("setting", "waits"),
    [
        ({"shares_cluster": True}, [None, "room on the cluster", "room on the cluster"]),
        ({"scheduler": "Slurm"}, ["its handing over to Slurm"] * 3),
    ],
)
def test_no_sweep_waits_for_the_end_of_another_where_several_run_at_once(service, setting, waits):
    for name, value in setting.items():
        setattr(service.queue, name, value)
    ada = service.client("ada")
    for name in ("one", "two", "three"):
        ada.post("/sweeps", json=sent(name))
    assert [one["waits_for"] for one in ada.get("/queue").json()] == waits
    service.queue.record("starting", "one", attempt=1, before=0)
    assert [one["waits_for"] for one in ada.get("/queue").json()] == [None, *waits[1:]]


def test_a_look_reads_trials_once_until_they_change(service, monkeypatch):
    read = []
    monkeypatch.setattr(trials, "read_json_lines", lambda path: read.append(path.name) or ([], []))
    view = View(service.storage, service.queue)
    for _ in range(3):
        view._look("old")
    assert read == ["trials.jsonl"]
    with (service.storage / "old" / "trials.jsonl").open("a") as file:
        file.write("\n")
    view._look("old")
    assert read == ["trials.jsonl"] * 2


def test_of_each_file_one_version_is_kept_and_of_all_files_the_last(tmp_path):
    kept = Kept(lambda path: path.read_text())
    for number in range(FILES_KEPT + 5):
        path = tmp_path / f"{number}.txt"
        path.write_text(str(number))
        assert kept.of(path) == str(number)
    for growth in range(5):
        path.write_text("x" * (10 + growth))
        assert kept.of(path) == "x" * (10 + growth)
    assert len(kept._made) == FILES_KEPT
    assert [made for _, made in kept._made.values()][-1] == "x" * 14
    path.unlink()
    with pytest.raises(FileNotFoundError):
        kept.of(path)
