"""A sweep whose lane trains several trials side by side: the same files and curves, ordinary trials for Optuna."""

import json
from collections import Counter

import pytest
from conftest import run_sweep

from sweeps.ledger import Ledger

POINTS = [{"peak_lr": lr, "warmup_fraction": 0.05, "decay_floor": 7e-4} for lr in (2e-3, 4e-3, 6e-3, 9e-3)]
OVERRIDES = ["model.method=lora", "wandb.mode=disabled", "search.trials=4", f"search.seed_points={POINTS}"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same four trials, side by side and one after another."""
    storage, found = tmp_path_factory.mktemp("packed"), {}
    for name, slots in [("together", "3"), ("alone", "1")]:
        overrides = [f"storage_path={storage}", f"name={name}", f"resources.trials_per_lane={slots}", *OVERRIDES]
        result = run_sweep("conf/smoke.yaml", *overrides)
        assert result.returncode == 0, result.stderr
        found[name] = storage / name, result.stdout
    return found


def test_the_ledger_and_the_user_learn_how_many_run_side_by_side(folders):
    folder, output = folders["together"]
    assert "3 trials side by side in each lane" in " ".join(output.split())
    events, _ = Ledger(folder).read()
    (slots,) = [event for event in events if event["event"] == "slots"]
    assert (slots["asked"], slots["slots"], slots["obstacle"]) == (3, 3, None)
    names = [event["event"] for event in events]
    before_the_first_end = names[: names.index("trial_ended")]
    assert before_the_first_end.count("trial_submitted") >= 3


def test_trials_are_as_they_would_be_alone(folders):
    sides = {name: {t["trial_id"]: t for t in lines(folder / "trials.jsonl")} for name, (folder, _) in folders.items()}
    assert sides["together"].keys() == sides["alone"].keys()
    for trial_id, trial in sides["together"].items():
        other = sides["alone"][trial_id]
        assert trial["params"] == other["params"]
        assert (trial["state"], trial["steps"]) == (other["state"], other["steps"]) == ("complete", 16)
        for area, scores in trial["checkpoints"][-1]["areas"].items():
            assert scores["nll"] == pytest.approx(other["checkpoints"][-1]["areas"][area]["nll"], abs=1e-4)
        curves = [lines(folder / "trials" / trial_id / "curve.jsonl") for folder, _ in folders.values()]
        assert max(Counter(name for step in curves[0] for name in step["ids"]).values()) == 1
        for step, alone in zip(*curves, strict=True):
            assert step["ids"] == alone["ids"]
            assert step["item_nll"] == pytest.approx(alone["item_nll"], abs=1e-4)


def test_a_trial_is_charged_for_its_share_of_the_lane(folders):
    trials = lines(folders["together"][0] / "trials.jsonl")
    assert any(t["cost"]["device_seconds"] < 0.75 * t["cost"]["wall_seconds"] for t in trials)
    assert all(t["cost"]["device_seconds"] <= t["cost"]["wall_seconds"] for t in trials)
