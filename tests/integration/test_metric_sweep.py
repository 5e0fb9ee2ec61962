"""A real sweep that exact match decides: answers at every checkpoint, ranked, told to Optuna and kept by it."""

import json

import optuna
import pytest

from analysis.rank.leaderboard import leaderboard
from sweeps.search.study import open_storage
from tests.integration.conftest import run_sweep


def exact_match(areas):
    return sum(area["exact_match"] for area in areas.values()) / len(areas)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_exact_match_decides_a_whole_sweep(tmp_path):
    wanted = ["objective.metric=exact_match", "heldout.answers_at=[all]", "search.trials=3", "confirm.budget=0"]
    done = run_sweep("conf/smoke.yaml", f"storage_path={tmp_path}", *wanted)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "exact match decides" in done.stdout
    folder = tmp_path / "smoke"
    board = leaderboard(folder)
    assert board["measure"]["metric"] == "exact_match"
    assert f"{board['winner']['trial_id']}, step {board['winner']['step']})" in " ".join(done.stdout.split())
    records = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    complete = {record["trial_id"]: record for record in records if record["state"] == "complete"}
    ranked = [row for row in board["rows"] if row["rank"]]
    assert {row["trial_id"] for row in ranked} == set(complete)
    for row in ranked:
        points = [1 - exact_match(point["areas"]) for point in complete[row["trial_id"]]["checkpoints"]]
        assert row["objective"] == pytest.approx(min(points))
    study = optuna.load_study(study_name="smoke", storage=open_storage(folder))
    told = {trial.user_attrs["trial_id"]: trial.value for trial in study.trials if not trial.user_attrs.get("paused")}
    for name, record in complete.items():
        assert told[name] == pytest.approx(1 - exact_match(record["checkpoints"][-1]["areas"]))
