"""A sweep folder that version 0.1.0 wrote, before its packages were moved, is ranked, reported, exported and resumed.

`tests/data/sweep_of_0_1` was interrupted with two trials complete, one begun and one not yet proposed. Its base model's
path is written as MODEL_PATH there; the test builds that model, the same to the bit.
"""

import json
import shutil
import subprocess
import sys

import pytest

from tests.integration.conftest import HUNG_SECONDS, ROOT, environment, run_sweep
from trainables.config.sections import ModelConfig
from trainables.models.pretrained import resolve_model

OLD = ROOT / "tests" / "data" / "sweep_of_0_1"


@pytest.fixture(scope="module")
def model_path():
    return resolve_model(ModelConfig(name="random:tiny-llama", method="lora"), ROOT / ".cache" / "models")


@pytest.fixture
def old_sweep(tmp_path, model_path):
    folder = shutil.copytree(OLD, tmp_path / "cut")
    for name in ("plan.json", "manifest.json"):
        file = folder / name
        file.write_text(file.read_text().replace("MODEL_PATH", str(model_path)))
    return folder


def command(module, *arguments):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HUNG_SECONDS,
        check=False,
    )


def test_it_is_ranked_as_it_was(old_sweep):
    before = json.loads((OLD / "leaderboard.json").read_text())
    done = command("analysis.rank", old_sweep, "--json")
    assert done.returncode == 0, done.stderr
    now = json.loads(done.stdout)
    assert now["winner"]["trial_id"] == before["winner"]["trial_id"] == "t0001"
    for row, old in zip(now["rows"], before["rows"], strict=True):
        assert row["trial_id"] == old["trial_id"]
        assert row["objective"] == pytest.approx(old["objective"], abs=1e-12)
        assert row["gain"] == pytest.approx(old["gain"])


def test_it_is_reported_and_its_best_checkpoint_exported(old_sweep, tmp_path):
    assert command("analysis.report", old_sweep).returncode == 0
    assert "t0001" in (old_sweep / "report.html").read_text()
    done = command("analysis.export", old_sweep, "--to", tmp_path / "adapter")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_it_is_resumed_and_keeps_what_it_had(old_sweep):
    before = [json.loads(line) for line in (OLD / "trials.jsonl").read_text().splitlines()]
    done = run_sweep("--resume", old_sweep)
    assert done.returncode == 0, done.stderr + done.stdout
    after = [json.loads(line) for line in (old_sweep / "trials.jsonl").read_text().splitlines()]
    assert after[:2] == before
    assert [trial["trial_id"] for trial in after] == ["t0001", "t0002", "t0003", "t0004"]
    assert all(trial["state"] in ("complete", "pruned") for trial in after)
