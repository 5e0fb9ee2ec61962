"""Real sweeps through the service: killed while one runs, it finds it again; stopped and resumed, both finish."""

import json
import re
import subprocess
import sys
import time

import httpx
import pytest

from tests.integration.conftest import HUNG_SECONDS, ROOT, environment

pytestmark = pytest.mark.slow

OVERRIDES = ["search.trials=2", "wandb.mode=disabled", "model.method=full"]


class Service:
    """The command, and a client with the admin's token."""

    def __init__(self, storage, headers=None, *options, **variables):
        command = [sys.executable, "-m", "sweeps.serve", str(storage), "--port", "0", *options]
        env = environment(**variables)
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        lines = []
        while not lines or "http://" not in lines[-1]:
            lines.append(self.process.stdout.readline())
            assert lines[-1], "the service has ended"
        self.headers = headers or {"authorization": f"Bearer {lines[0].split(': ')[1].strip()}"}
        url = re.search(r"http://\S+", lines[-1])[0]
        self.client = httpx.Client(base_url=url, headers=self.headers, timeout=HUNG_SECONDS)

    def until(self, name, done):
        deadline = time.monotonic() + HUNG_SECONDS
        while not done(row := self.client.get(f"/sweeps/{name}").json()):
            assert time.monotonic() < deadline, row
            time.sleep(0.2)
        return row

    def stop_and_resume(self, name):
        """Stops a sweep that trains, and sees it through after a resume."""
        self.until(name, lambda row: row["trial_ids"])
        assert self.client.post(f"/sweeps/{name}/stop", json={}).status_code == 200
        assert self.until(name, lambda row: not row["queue"].startswith("running"))["queue"] == "stopped"
        assert self.client.post(f"/sweeps/{name}/resume", json={}).status_code == 200
        row = self.until(name, lambda row: row["queue"] not in ("queued", "running"))
        assert (row["queue"], row["state"]) == ("complete", "complete")
        return row

    def kill(self):
        self.process.kill()
        self.process.wait()


def test_two_sweeps_through_a_killed_service(tmp_path):
    config = (ROOT / "conf" / "smoke.yaml").read_text()
    service = Service(tmp_path)
    try:
        for name in ("first", "second"):
            body = {"config": config, "overrides": [f"name={name}", *OVERRIDES], "client_id": name}
            answer = service.client.post("/sweeps", json=body)
            assert answer.status_code == 201, answer.text
            assert answer.json()["forecast"]["sweep_flops"] > 0
        service.until("first", lambda row: row["trial_ids"])
        service.kill()
        service = Service(tmp_path, service.headers)
        assert service.client.get("/queue").json()[0]["state"] == "running"
        assert service.client.post("/sweeps", json=body).status_code == 200
        assert service.until("first", lambda row: row["queue"] not in ("queued", "running"))["queue"] == "complete"
        assert service.stop_and_resume("second")["verdict"]
    finally:
        service.kill()
    for name, starts in (("first", 1), ("second", 2)):
        events = [json.loads(line)["event"] for line in (tmp_path / name / "ledger.jsonl").read_text().splitlines()]
        assert events.count("sweep_started") == starts
