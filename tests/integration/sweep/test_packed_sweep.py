"""A sweep whose lane trains several trials side by side: the same files and curves, ordinary trials for Optuna."""

import json
import subprocess
import sys
from collections import Counter

import optuna
import pytest

from analysis.export.export import export
from sweeps.ledger.ledger import Ledger
from sweeps.search.study import open_storage
from tests.integration.conftest import run_sweep

POINTS = [{"peak_lr": lr, "warmup_fraction": 0.05, "decay_floor": 7e-4} for lr in (2e-3, 4e-3, 6e-3, 9e-3)]
OVERRIDES = ["model.method=lora", "wandb.mode=disabled", "search.trials=4", f"search.seed_points={POINTS}"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    storage = tmp_path_factory.mktemp("packed")
    result = run_sweep("conf/smoke.yaml", f"storage_path={storage}", "resources.trials_per_lane=3", *OVERRIDES)
    assert result.returncode == 0, result.stderr
    return storage / "smoke", result.stdout


def test_the_ledger_and_the_user_learn_how_many_run_side_by_side(done):
    folder, output = done
    assert "3 trials side by side on each worker" in " ".join(output.split())
    events, _ = Ledger(folder).read()
    (slots,) = [event for event in events if event["event"] == "slots"]
    assert (slots["asked"], slots["slots"], slots["obstacle"]) == (3, 3, None)
    names = [event["event"] for event in events]
    before_the_first_end = names[: names.index("trial_ended")]
    assert before_the_first_end.count("trial_submitted") >= 3


def test_every_trial_is_a_whole_epoch_of_its_own(done):
    folder, _ = done
    trials = lines(folder / "trials.jsonl")
    assert sorted(t["params"]["peak_lr"] for t in trials) == [point["peak_lr"] for point in POINTS]
    orders, objectives = set(), {}
    for trial in trials:
        assert (trial["state"], trial["steps"], trial["samples_seen"]) == ("complete", 16, 64)
        curve = lines(folder / "trials" / trial["trial_id"] / "curve.jsonl")
        assert max(step["lr"] for step in curve) == pytest.approx(trial["params"]["peak_lr"])
        ids = tuple(name for step in curve for name in step["ids"])
        assert set(Counter(ids).values()) == {1}
        orders.add(ids)
        areas = trial["checkpoints"][-1]["areas"].values()
        objectives[trial["params"]["peak_lr"]] = sum(scores["nll"] for scores in areas)
    assert len(orders) == 4  # one for each seed in rotation
    assert sorted(objectives, key=objectives.get, reverse=True) == sorted(objectives)  # all are below the best LR


def test_a_trial_is_charged_for_its_share_of_the_lane(done):
    trials = lines(done[0] / "trials.jsonl")
    assert any(t["cost"]["device_seconds"] < 0.75 * t["cost"]["wall_seconds"] for t in trials)
    assert all(t["cost"]["device_seconds"] <= t["cost"]["wall_seconds"] for t in trials)


@pytest.fixture(scope="module")
def in_4_bits(tmp_path_factory):
    storage = tmp_path_factory.mktemp("nf4")
    nf4 = ["model.quantize=nf4", "search.trials=3", f"search.seed_points={POINTS[:3]}", "training.precision=fp32"]
    result = run_sweep("conf/smoke.yaml", f"storage_path={storage}", "resources.trials_per_lane=2", *OVERRIDES, *nf4)
    assert result.returncode == 0, result.stderr
    assert "on weights in 4 bits" in result.stdout
    return storage / "smoke"


@pytest.mark.slow
def test_trials_on_a_base_in_4_bits_train_side_by_side_and_are_exported(in_4_bits, tmp_path):
    trials = lines(in_4_bits / "trials.jsonl")
    assert [trial["state"] for trial in trials] == ["complete"] * 3
    events, _ = Ledger(in_4_bits).read()
    (slots,) = [event for event in events if event["event"] == "slots"]
    assert (slots["slots"], slots["obstacle"]) == (2, None)
    adapter, merged = export(in_4_bits, tmp_path / "adapter"), export(in_4_bits, tmp_path / "merged", merge=True)
    print(f"adapter: {adapter.parity}\nmerged: {merged.parity}")
    assert adapter.parity.recorded_difference < 1e-4, "PEFT and bitsandbytes find what the sweep recorded"
    assert merged.parity.heldout_difference < 1e-4
    assert 0.0 < abs(merged.parity.shift) < 0.1, "other weights than those of training"
    code = (tmp_path / "adapter/README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("THIS_FOLDER", str(tmp_path / "adapter"))
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.slow
def test_a_sweep_in_4_bits_goes_on_and_stays_in_4_bits(in_4_bits):
    before = lines(in_4_bits / "trials.jsonl")
    again = run_sweep("--resume", str(in_4_bits), "search.trials=4")
    assert again.returncode == 0, again.stderr
    now = lines(in_4_bits / "trials.jsonl")
    assert now[:3] == before
    assert [trial["trial_id"] for trial in now] == ["t0001", "t0002", "t0003", "t0004"]
    study = optuna.load_study(study_name="smoke", storage=open_storage(in_4_bits))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    changed = run_sweep("--resume", str(in_4_bits), "model.quantize=null")
    assert changed.returncode == 2
    assert "model.quantize: must stay as it was in a resumed sweep, got None after 'nf4'" in changed.stderr
