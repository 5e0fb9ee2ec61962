"""The command end to end on local Ray: the contract's files, the study, stopping, resuming."""

import json
import math
import re
import signal
import subprocess
import time
from collections import Counter

import numpy as np
import optuna
import pytest
import yaml

from sweeps.ledger.ledger import Ledger
from sweeps.search.study import open_storage
from tests.integration.conftest import HUNG_SECONDS, ROOT, command, environment, run_sweep

AREAS = {"tables", "invoices"}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def trials(smoke):
    return lines(smoke[0] / "trials.jsonl")


def test_every_file_of_the_contract_is_there(smoke):
    folder, _ = smoke
    for name in (
        "sweep.yaml",
        "manifest.json",
        "plan.json",
        "baseline.json",
        "trials.jsonl",
        "leaderboard.json",
        "study.log",
        "ledger.jsonl",
    ):
        assert (folder / name).stat().st_size > 0, name


def test_the_manifest_and_the_ledger_know_the_sweep_by_one_id(smoke):
    folder, _ = smoke
    manifest = json.loads((folder / "manifest.json").read_text())
    started = next(event for event in Ledger(folder).read()[0] if event["event"] == "sweep_started")
    assert re.fullmatch("[0-9a-f]{12}", manifest["sweep_id"])
    assert (started["sweep_id"], started["parent"]) == (manifest["sweep_id"], manifest["parent"])


def test_each_trial_says_how_it_ended(trials):
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    for trial in trials:
        assert trial["steps"] == trial["steps_planned"] == 16
        assert trial["samples_seen"] == 64
        assert set(trial["params"]) == {"peak_lr", "warmup_fraction", "decay_floor", "max_grad_norm"}
        assert trial["params"]["max_grad_norm"] == 0.5
        assert [checkpoint["step"] for checkpoint in trial["checkpoints"]] == [8, 16]
        assert trial["cost"]["device_seconds"] > 0


def test_the_curve_proves_one_epoch_and_adds_up(smoke, trials):
    folder, _ = smoke
    train = {json.loads(line)["id"] for line in (ROOT / "conf/data/demo/train.jsonl").open().readlines()[:64]}
    orders = []
    for trial in trials:
        curve = lines(folder / "trials" / trial["trial_id"] / "curve.jsonl")
        seen = [sample for step in curve for sample in step["ids"]]
        assert Counter(seen) == Counter(train)
        orders.append(seen)
        assert [step["step"] for step in curve] == list(range(1, 17))
        assert max(step["lr"] for step in curve) == pytest.approx(trial["params"]["peak_lr"])
        assert curve[-1]["lr"] == pytest.approx(trial["params"]["decay_floor"])
        for step in curve:
            summed = np.dot(step["item_nll"], step["item_tokens"])
            assert summed / step["tokens"] == pytest.approx(step["loss"], rel=1e-5)
            assert sum(step["item_tokens"]) == step["tokens"]
    assert [trial["seed"] for trial in trials] == [0, 1, 2]
    assert len({tuple(order) for order in orders}) == 3, "each seed has an order of its own"


def test_areas_are_means_of_the_items_written(smoke, trials):
    folder, _ = smoke
    trial = trials[0]
    items = lines(folder / "trials" / trial["trial_id"] / "heldout.jsonl")
    for checkpoint in trial["checkpoints"]:
        assert set(checkpoint["areas"]) == AREAS
        for area, summary in checkpoint["areas"].items():
            own = [item for item in items if item["step"] == checkpoint["step"] and item["area"] == area]
            assert len(own) == summary["items"] == 12
            assert np.mean([item["nll"] for item in own]) == pytest.approx(summary["nll"])
            answered = checkpoint["step"] == 16
            assert (summary["exact_match"] is not None) == answered
            assert all((item["answer"] is not None) == answered for item in own)


def test_checkpoints_are_complete_and_lie_where_the_record_says(smoke, trials):
    from trainables.storage.sealed_folder import verify

    folder, _ = smoke
    for trial in trials:
        for checkpoint in trial["checkpoints"]:
            assert (folder / checkpoint["path"]).exists() == checkpoint["kept"]
            if checkpoint["kept"]:
                verify(folder / checkpoint["path"])
    kept = [[checkpoint["kept"] for checkpoint in trial["checkpoints"]] for trial in trials]
    assert [sum(flags) for flags in kept] == [1] * len(trials)  # each trial's best: fewer than are kept


def test_the_study_holds_what_the_trials_ended_with(smoke, trials):
    folder, _ = smoke
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    for told, trial in zip(study.trials, trials, strict=True):
        last = trial["checkpoints"][-1]["areas"]
        assert told.state.name == "COMPLETE"
        assert told.user_attrs["trial_id"] == trial["trial_id"]
        assert told.value == pytest.approx(np.mean([last[area]["nll"] for area in AREAS]))


def test_the_leaderboard_names_the_lowest(smoke, trials):
    folder, done = smoke
    board = json.loads((folder / "leaderboard.json").read_text())
    means = {
        (trial["trial_id"], checkpoint["step"]): np.mean([area["nll"] for area in checkpoint["areas"].values()])
        for trial in trials
        for checkpoint in trial["checkpoints"]
    }
    assert (board["winner"]["trial_id"], board["winner"]["step"]) == min(means, key=means.get)
    assert "Best learning rate" in done.stdout


def test_the_ledger_and_manifest_tell_the_same_story(smoke, trials):
    folder, _ = smoke
    events, torn = Ledger(folder).read()
    assert torn == []
    assert [event["trial"] for event in events if event["event"] == "trial_ended"] == trials
    assert events[-1] == {**events[-1], "event": "sweep_ended", "state": "complete"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert set(manifest["data_sha256"]) == {"train", *AREAS}


def test_offline_runs_of_wandb_lie_beside(smoke):
    folder, done = smoke
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 3 + 2  # of the trials, the base model and the sweep
    assert "wandb" not in done.stdout + done.stderr


def test_a_finished_folder_is_refused_and_untouched(smoke):
    folder, _ = smoke
    before = (folder / "trials.jsonl").read_bytes()
    again = run_sweep("conf/smoke.yaml", f"storage_path={folder.parent}")
    assert again.returncode == 2
    assert "continue it with --resume, or take another name" in again.stderr
    assert (folder / "trials.jsonl").read_bytes() == before


def test_a_resumed_sweep_must_stay_what_it_was(smoke):
    folder, _ = smoke
    refused = run_sweep("--resume", folder, "seed=5", "search.trials=1")
    assert refused.returncode == 2
    assert sorted(line.split(":")[1].strip() for line in refused.stderr.splitlines()) == ["search.trials", "seed"]


def test_ctrl_c_frees_the_lanes_says_so_and_the_sweep_is_resumed_with_one_trial_more(tmp_path):
    arguments = ("conf/smoke.yaml", f"storage_path={tmp_path}", "data.limit=160", "search.trials=2")
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    folder = tmp_path / "smoke"
    curve = folder / "trials" / "t0002" / "curve.jsonl"
    deadline = time.monotonic() + HUNG_SECONDS / 2
    while not (curve.exists() and curve.stat().st_size) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=HUNG_SECONDS)
    assert process.returncode == 130, out
    assert f"continue it: python -m sweeps.run --resume {folder}" in out
    assert json.loads((folder / "manifest.json").read_text())["state"] == "interrupted"
    events = [event["event"] for event in Ledger(folder).read()[0]]
    assert "trial_interrupted" in events
    (first,) = lines(folder / "trials.jsonl")

    done = run_sweep("--resume", folder, "search.trials=3")
    assert done.returncode == 0, done.stderr + done.stdout
    now = lines(folder / "trials.jsonl")
    assert now[0] == first
    assert [(t["trial_id"], t["state"]) for t in now] == [(f"t000{n}", "complete") for n in (1, 2, 3)]
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


@pytest.mark.slow
def test_a_diverged_trial_is_a_result(tmp_path):
    config = yaml.safe_load((ROOT / "conf/smoke.yaml").read_text())
    config["space"] = {"peak_lr": 1e38, "warmup_fraction": 0.05, "decay_floor": 1e37, "beyond_recommended": "a test"}
    config["training"]["max_grad_norm"] = 0.0
    config["search"] = {"trials": 1}
    path = tmp_path / "diverge.yaml"
    path.write_text(yaml.safe_dump(config))
    done = run_sweep(path, f"storage_path={tmp_path}")
    assert done.returncode == 3, done.stderr + done.stdout
    (trial,) = lines(tmp_path / "smoke" / "trials.jsonl")
    assert trial["state"] == "diverged"
    assert trial["steps"] < trial["steps_planned"]
    assert trial["findings"][0]["advice"]
    (told,) = optuna.load_study(study_name="smoke", storage=open_storage(tmp_path / "smoke")).trials
    baseline = json.loads((tmp_path / "smoke" / "baseline.json").read_text())["areas"]
    assert told.state.name == "COMPLETE"
    assert told.value == pytest.approx(np.mean([area["nll"] for area in baseline.values()]))
    assert not math.isnan(told.value)
