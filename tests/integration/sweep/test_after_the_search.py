"""After the search: replicates where settings tie, parts of the data, sealed areas opened once."""

import json
import subprocess
import sys
from collections import Counter

import optuna
import pytest

from sweeps.ledger.ledger import Ledger
from sweeps.search.study import open_storage
from tests.integration.conftest import HUNG_SECONDS, run_sweep

pytestmark = pytest.mark.slow

SEALED = "heldout.areas.invoices.role=sealed"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(folder, kind):
    return [event for event in Ledger(folder).read()[0] if event["event"] == kind]


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory):
    storage = tmp_path_factory.mktemp("confirmed")
    narrow = "space.peak_lr={low: 2e-3, high: 8e-3, log: true}"
    done = run_sweep(
        "conf/smoke.yaml", f"storage_path={storage}", "search.trials=3", "confirm.budget=4", "confirm.rounds=2",
        "training.checkpoints_at=[1.0]", "search.trial_scheduler=none", "confirm.epsilon=1e-6", SEALED, narrow,
        "more_data.subsets=true", "winner.retrain=true",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return storage / "smoke", done


def test_contenders_get_the_same_new_seeds(confirmed):
    folder, _ = confirmed
    (started,) = events(folder, "confirm_started")
    (ended,) = events(folder, "confirm_ended")
    replicates = [trial for trial in lines(folder / "trials.jsonl") if trial["kind"] == "replicate"]
    assert len(started["contenders"]) >= 2
    assert {trial["replicate_of"] for trial in replicates} <= set(started["contenders"])
    assert 2 <= len(replicates) == ended["spent"] <= 4
    assert {trial["seed"] for trial in replicates} <= {4, 5}, "after those of the search, 0 to 3"
    first = Counter(trial["replicate_of"] for trial in replicates if trial["seed"] == 4)
    assert first == Counter(started["contenders"]), "a round trains every contender with one seed"
    settings = {trial["trial_id"]: trial["params"] for trial in lines(folder / "trials.jsonl")}
    assert all(settings[trial["replicate_of"]] == trial["params"] for trial in replicates)


def test_optuna_knows_replicates_as_repeated_observations(confirmed):
    folder, _ = confirmed
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    told = Counter(trial.user_attrs.get("replicate_of", "search") for trial in study.trials)
    assert told["search"] == 3
    assert sum(told.values()) == sum(
        trial["kind"] in ("search", "replicate") for trial in lines(folder / "trials.jsonl")
    )
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)


def test_the_winners_setting_is_trained_on_nested_parts_of_the_data(confirmed):
    folder, done = confirmed
    board = json.loads((folder / "leaderboard.json").read_text())
    setting = board["winner_setting"]
    trials = {trial["trial_id"]: trial for trial in lines(folder / "trials.jsonl")}
    quarter, half = (trials[f"{setting}-part{part}"] for part in (25, 50))
    met = {}
    for trial in (quarter, half, trials[setting]):
        curve = lines(folder / "trials" / trial["trial_id"] / "curve.jsonl")
        met[trial["trial_id"]] = [name for step in curve for name in step["ids"]]
        assert (trial["state"], trial["seed"]) == ("complete", trials[setting]["seed"])
        assert trial["params"] == trials[setting]["params"]
        assert curve[-1]["lr"] == pytest.approx(trial["params"]["decay_floor"], rel=0.5), "a whole schedule"
    small, middle, whole = (met[trial["trial_id"]] for trial in (quarter, half, trials[setting]))
    assert (len(small), len(middle), len(whole)) == (16, 32, 64)
    assert set(small) < set(middle) < set(whole)
    assert len(set(middle)) == 32, "each sample once"
    assert not {quarter["trial_id"], half["trial_id"]} & {row["trial_id"] for row in board["rows"]}
    assert board["more_data"]["trials"] == {
        "quarter": quarter["trial_id"], "half": half["trial_id"], "full": setting,
    }  # fmt: skip
    assert board["more_data"]["from_half"] is not None
    assert "the second half brought" in done.stdout


def test_a_sealed_area_decides_nothing_and_is_scored_once_for_the_winner(confirmed):
    folder, done = confirmed
    board = json.loads((folder / "leaderboard.json").read_text())
    (opened,) = events(folder, "sealed_opened")
    assert (opened["winner"], opened["areas"], opened["again"]) == (board["winner"], ["invoices"], False)
    assert set(json.loads((folder / "baseline.json").read_text())["areas"]) == {"tables"}
    for trial in (one for one in lines(folder / "trials.jsonl") if one["kind"] != "retrain"):
        assert all(set(checkpoint["areas"]) == {"tables"} for checkpoint in trial["checkpoints"])
        scored = {item["area"] for item in lines(folder / "trials" / trial["trial_id"] / "heldout.jsonl")}
        is_winner = trial["trial_id"] == board["winner"]["trial_id"]
        assert scored == ({"tables", "invoices"} if is_winner else {"tables"})
    (scored,) = events(folder, "sealed_scored")
    assert scored["areas"]["invoices"]["items"] == 12
    assert "Final test set       invoices, loss " in done.stdout


def test_the_winner_is_trained_again_on_what_chose_it_and_exported(confirmed, tmp_path):
    folder, done = confirmed
    trials = {trial["trial_id"]: trial for trial in lines(folder / "trials.jsonl")}
    board = json.loads((folder / "leaderboard.json").read_text())
    winner = board["winner"]["trial_id"]
    again = trials[f"{winner}-retrained"]
    assert (again["kind"], again["state"], again["params"]) == ("retrain", "complete", trials[winner]["params"])
    curve = lines(folder / "trials" / again["trial_id"] / "curve.jsonl")
    met = [name for step in curve for name in step["ids"]]
    items = {item["id"] for item in lines(folder / "trials" / winner / "heldout.jsonl") if item["area"] == "tables"}
    assert len(met) == 64 + len(items)
    assert items <= set(met)
    assert {item["area"] for item in lines(folder / "trials" / again["trial_id"] / "heldout.jsonl")} == {"invoices"}
    assert board["retrained"]["trial_id"] == again["trial_id"]
    assert f"Retrained {again['trial_id']}, on held-out items too:" in " ".join(done.stdout.split())
    asked = ["--to", str(tmp_path / "out"), "--trial", again["trial_id"]]
    made = subprocess.run(
        [sys.executable, "-m", "analysis.export", str(folder), *asked],
        capture_output=True, text=True, timeout=HUNG_SECONDS, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "verified: reloaded with transformers, logits " in made.stdout
    assert "sealed areas below alone judge it" in (tmp_path / "out" / "README.md").read_text()


def test_a_resumed_sweep_does_not_open_them_again(confirmed):
    folder, _ = confirmed
    done = run_sweep("--resume", folder)
    assert done.returncode == 0, done.stderr
    assert len(events(folder, "sealed_opened")) == 1
    assert len(events(folder, "confirm_started")) == 1
    assert sum(trial["kind"] == "subset" for trial in lines(folder / "trials.jsonl")) == 2
    again = run_sweep("--resume", folder, "--open-sealed-again")
    assert again.returncode == 0, again.stderr
    assert [event["again"] for event in events(folder, "sealed_opened")] == [False, True]
