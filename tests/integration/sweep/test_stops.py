"""A sweep that ends before its last trial: because the base model is good enough, or because the budget is spent."""

import json

import pytest

from sweeps.ledger.ledger import Ledger
from tests.integration.conftest import run_sweep

pytestmark = pytest.mark.slow


def events(folder):
    return [event["event"] for event in Ledger(folder).read()[0]]


def test_a_base_model_that_is_good_enough_trains_nothing(tmp_path):
    enough = "objective.enough={metric: nll, value: 100}"
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", enough)
    assert done.returncode == 3, done.stderr
    assert "fine-tuning is not needed" in done.stdout
    folder = tmp_path / "smoke"
    assert json.loads((folder / "manifest.json").read_text())["state"] == "not_needed"
    assert set(json.loads((folder / "baseline.json").read_text())["areas"]) == {"tables", "invoices"}
    assert "trial_submitted" not in events(folder)
    assert not (folder / "trials.jsonl").exists()


def test_a_spent_budget_ends_the_sweep_in_order_and_more_of_it_goes_on(tmp_path):
    first = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", "search.trials=2", "budget.device_hours=0.001")
    folder = tmp_path / "smoke"
    assert first.returncode in (0, 3), first.stderr
    assert "the budget is spent" in first.stdout
    assert json.loads((folder / "manifest.json").read_text())["state"] == "budget_spent"
    spent = Ledger(folder).read()[0][-1]["device_hours"]
    assert spent >= 0.001
    refused = run_sweep("--resume", folder)
    assert refused.returncode == 2
    assert "error: budget.device_hours: must leave something to spend" in refused.stderr
    done = run_sweep("--resume", folder, "budget.device_hours=1")
    assert done.returncode == 0, done.stderr
    ends = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert sorted(end["trial_id"] for end in ends) == ["t0001", "t0002"]
    assert all(end["state"] == "complete" for end in ends)
    assert "budget.device_hours=1" not in first.stdout
    assert Ledger(folder).read()[0][-1]["device_hours"] > spent, "what earlier starts cost counts on"
