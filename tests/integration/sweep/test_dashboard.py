"""Optuna's dashboard opens the study that a sweep leaves behind."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.unit.analysis.synthetic_sweep import write_synthetic_sweep

pytestmark = pytest.mark.slow

pytest.importorskip("optuna_dashboard")

PATIENCE_SECONDS = 120


def ask(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def test_the_study_of_a_sweep_opens_with_all_its_trials(tmp_path):
    folder = write_synthetic_sweep(tmp_path, 6, "smoke")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(sys.executable).with_name("optuna-dashboard")
    dashboard = subprocess.Popen([script, folder / "study.log", "--host", "127.0.0.1", "--port", str(port)])
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                studies = ask(port, "/api/studies")["study_summaries"]
                break
            except OSError:
                assert dashboard.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        (study,) = studies
        assert study["study_name"] == "smoke"
        trials = ask(port, f"/api/studies/{study['study_id']}?after=0")["trials"]
        ended = [json.loads(line)["trial_id"] for line in (folder / "trials.jsonl").read_text().splitlines()]
        told = [
            attr["value"].strip('"') for trial in trials for attr in trial["user_attrs"] if attr["key"] == "trial_id"
        ]
        assert sorted(told) == sorted(ended)
    finally:
        dashboard.terminate()
        dashboard.wait(timeout=30)
