"""`python -m sweeps.rebuild` on a real sweep: what it makes from the ledger is what the sweep had written."""

import json
import shutil
import subprocess
import sys

import optuna
import pytest

from sweeps.search.study import open_storage
from tests.integration.conftest import ROOT, environment
from tests.integration.wandb.wandb_case import sync
from tests.integration.wandb.wandb_server import WandbServer

pytestmark = pytest.mark.slow

MADE = ("sweep.yaml", "baseline.json", "trials.jsonl", "leaderboard.json", "study.log")


@pytest.fixture
def copy(smoke, tmp_path):
    return shutil.copytree(smoke[0], tmp_path / "smoke")


def rebuild(*arguments):
    command = [sys.executable, "-m", "sweeps.rebuild", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False
    )


def content(folder):
    """What the made files say: the study as Optuna reads it, the others as they are."""
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    told = [(t.state, t.value, t.params, t.user_attrs, t.intermediate_values) for t in study.trials]
    kept = {name: (folder / name).read_text() for name in MADE if name not in ("study.log", "sweep.yaml")}
    return {**kept, "study.log": told}


def test_every_file_comes_back_as_it_was(copy, tmp_path):
    before = content(copy)
    for name in MADE:
        (copy / name).unlink()
    out = tmp_path / "a" / "b" / "runs"
    done = rebuild(copy, "--wandb", out)
    assert done.returncode == 0, done.stderr
    assert content(copy) == before
    assert_runs_hold_the_curves(copy, out)


def assert_runs_hold_the_curves(folder, out):
    trials = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    with WandbServer() as server:
        for run in (out / "wandb").glob("offline-run-*"):
            sync(server, run)
    assert len(server.runs) == len(trials)
    runs = {run.upserts[0]["displayName"].split(" · ")[2]: run for run in server.runs.values()}
    for trial in trials:
        run, curve = runs[trial["trial_id"]], folder / "trials" / trial["trial_id"] / "curve.jsonl"
        losses = [json.loads(line)["loss"] for line in curve.read_text().splitlines()]
        assert [row["train/loss"] for row in run.rows("train/loss")] == pytest.approx(losses)
        assert len(run.rows("heldout/tables/nll")) == 1 + len(trial["checkpoints"]), "the base model's, and each point"
        speed = [json.loads(line) for line in curve.with_name("speed.jsonl").read_text().splitlines()]
        rates = [row["train/tokens_per_second"] for row in run.rows("train/tokens_per_second")]
        assert rates == pytest.approx([line["tokens"] / line["seconds"] for line in speed])
        assert speed
        assert run.summary["verdict"]["state"] == "complete"
        assert run.exit_code == 0


def test_runs_are_not_written_twice_into_one_folder(copy):
    done = rebuild(copy, "--wandb", copy)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --wandb: must be a new folder")
