"""The service leaves its sweeps to a real Slurm: one waits for the other's node, is stopped there, and resumed."""

import json

import pytest

from tests.integration.conftest import ROOT
from tests.integration.service.test_service import OVERRIDES, Service
from tests.integration.slurm_nodes import asked, needs_slurm, two_nodes, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), needs_slurm]

ASKED = ("--scheduler", "slurm", "--cpus-per-task", "2", "--time", "30", "--sbatch", "nodelist=n1")


def waits_for(service, name):
    (row,) = (row for row in service.client.get("/queue").json() if row["id"] == name)
    return row["waits_for"] or ""


def test_two_sweeps_share_a_node_of_slurm_one_after_another(tmp_path):
    (tmp_path / "slurm").mkdir()
    storage = tmp_path / "sweeps"
    with two_nodes(tmp_path / "slurm") as env:
        service = Service(storage, None, *ASKED, SLURM_CONF=env["SLURM_CONF"], PYTHONPATH=str(ROOT))
        try:
            config = (ROOT / "conf" / "smoke.yaml").read_text()
            for name in ("first", "second"):
                body = {"config": config, "overrides": [f"name={name}", *OVERRIDES, "data.limit=200"]}
                assert service.client.post("/sweeps", json=body).status_code == 201
            service.until("first", lambda row: row["trial_ids"])
            wait_until(lambda: waits_for(service, "second").startswith("Slurm: "), 60)
            assert service.until("first", lambda row: row["queue"] == "complete")["verdict"]

            service.stop_and_resume("second")
            assert asked(env, "squeue", "-h") == ""
        finally:
            service.kill()
    for name, starts in (("first", 1), ("second", 2)):
        events = [json.loads(line)["event"] for line in (storage / name / "ledger.jsonl").read_text().splitlines()]
        assert events.count("sweep_started") == starts
