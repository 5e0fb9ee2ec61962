"""A metric other than the loss decides: ranking, gains, guard-rails and the sentence on agreement."""

import json

import numpy as np
import pytest
import yaml

from analysis.compare.compare import compare, read_entry
from analysis.output.verdict import verdict
from analysis.rank.leaderboard import leaderboard
from tests.unit.analysis.conftest import FakeTrial, printed, replicate, rewrite

ITEMS = 100
RIGHT = {"baseline": 20, "t1": 30, "t2": 60, "t3": 58}  # of 100 items in each area; by loss t1 is first


def answer(folder, name, right, last_only=False):
    """Makes the first `right` items of each area right, at the last step or at all."""
    path = folder / "trials" / name / "heldout.jsonl"
    last = max(json.loads(line)["step"] for line in path.read_text().splitlines())

    def change(item):
        if last_only and item["step"] != last:
            return {**item, "answer": None, "exact_match": None, "token_f1": None}
        value = float(int(item["id"].rpartition("-")[2]) < right)
        return {**item, "answer": "x", "exact_match": value, "token_f1": value, "scores": {"mine:own": value}}

    rewrite(path, change)


@pytest.fixture
def decided(write_sweep):
    """Writes a sweep in which loss and exact match disagree, and says what decides."""

    def write(metric, trials=None, right=RIGHT, last_only=False, **more):
        trials = trials or [
            FakeTrial(name, {5: 0.1, 10: gain}) for name, gain in (("t1", 0.6), ("t2", 0.4), ("t3", 0.3))
        ]
        folder = write_sweep(trials, items=ITEMS, **more)
        config = yaml.safe_load((folder / "sweep.yaml").read_text())
        config["objective"] = {"statement": "Answer.", **({"metric": metric} if metric else {})}
        (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
        for name in ["baseline", *(trial.trial_id for trial in trials)]:
            answer(folder, name, right[name.partition("-")[0]], last_only and name != "baseline")
        return folder

    return write


@pytest.mark.parametrize(
    ("metric", "winner", "objective", "gain", "said"),
    [
        (None, "t1", None, 0.6, "Held-out loss: 2.02 → 1.42 (−0.60, 95 % CI "),
        ("nll", "t1", None, 0.6, "Held-out loss: 2.02 → 1.42 (−0.60, 95 % CI "),
        ("exact_match", "t2", 0.4, 0.4, "Exact match: 20 % → 60 % (+40 points, 95 % CI "),
        ("token_f1", "t2", 0.4, 0.4, "Token F1: 20 % → 60 % (+40 points, 95 % CI "),
        ("mine:own", "t2", 0.4, 0.4, "Mine:own: 20 % → 60 % (+40 points, 95 % CI "),
    ],
)
def test_the_metric_decides_with_its_direction_and_unit(decided, metric, winner, objective, gain, said):
    board = leaderboard(decided(metric))
    assert board["winner"]["trial_id"] == winner
    assert board["winner_gain"]["plain"] == pytest.approx(gain, abs=0.02)
    assert objective is None or board["rows"][0]["objective"] == pytest.approx(objective)
    assert said in board["verdict"]


def test_loss_and_exact_match_that_disagree_are_said_to_whichever_decides(decided):
    said = "Held-out loss and exact match disagree: by loss t1 · 3.0e-4 is best (exact match 0.300 ["
    for metric in ("nll", "exact_match"):
        folder = decided(metric, name=metric)
        found = leaderboard(folder)["beside"]["agreement"]
        assert found["difference"] == pytest.approx(0.3)
        assert found["interval"][0] > 0
        assert said in " ".join(printed(leaderboard(folder)).split())
    assert (
        "Exact match: 20 % → 30 %; highest at t2 · 3.0e-4 (+30 points)."
        in leaderboard(decided("nll", name="x"))["verdict"]
    )
    alike = {"baseline": 20, "t1": 60, "t2": 60, "t3": 10}
    assert "Exact match: 20 % → 60 %. " in leaderboard(decided("nll", right=alike))["verdict"]


def test_a_disagreement_that_few_items_make_is_not_told_from_none(decided):
    board = leaderboard(decided("nll", right={**RIGHT, "t1": 58}))
    found = board["beside"]["agreement"]
    assert (found["difference"], found["p"]) == (pytest.approx(0.02), 0.5)  # one cluster of two items in each area
    assert found["interval"][0] < 0
    assert "highest at t2 · 3.0e-4 (+2 points, not significant)" in board["verdict"]
    assert "exact p 0.5 with t2 · 3.0e-4; not significant)" in " ".join(printed(board).split())


def test_only_checkpoints_with_answers_compete(decided):
    board = leaderboard(decided("exact_match", last_only=True))
    assert board["winner"] == {"trial_id": "t2", "step": 10}
    steps = {c["step"]: c["defect"] for c in board["rows"][0]["checkpoints"]}
    assert "no answers" in steps[5]
    assert steps[10] is None
    assert "no answers" not in printed(board)
    assert leaderboard(decided("exact_match", name="all"))["winner"]["step"] == 5  # equals: the earlier


def test_a_sweep_without_answers_ranks_nothing_and_takes_no_other_measure(decided):
    folder = decided("exact_match")
    for name in ("t1", "t2", "t3"):
        rewrite(folder / "trials" / name / "heldout.jsonl", lambda item: {**item, "exact_match": None})
    assert leaderboard(folder)["winner"] is None


def test_replicates_measure_seeds_in_shares(decided):
    trials = [FakeTrial(f"t{k}", {10: 0.5}) for k in (1, 2)]
    trials += [replicate(f"t{k}", seed, {10: 0.5}) for k in (1, 2) for seed in (1, 2)]
    board = leaderboard(decided("exact_match", trials))
    assert board["separation"]["seed_sd_source"] == "replicates"
    assert board["rows"][0]["setting"]["objective"] == pytest.approx(0.4)
    assert board["rows"][1]["setting"]["behind"] == pytest.approx(0.3)
    assert "mean exact match 0.600" in printed(board)


@pytest.mark.parametrize(("right", "outcome"), [(20, "undecided"), (40, "pass"), (0, "fail")])
def test_a_guard_rail_is_in_points_and_no_pass_by_silence(decided, right, outcome):
    """With the base model's answers unchanged nothing disagrees, which 50 clusters do not prove."""
    areas = {area: {"not_worse_by": 0.01} for area in ("invoices", "tables")}
    board = leaderboard(decided("exact_match", [FakeTrial("t1", {10: 0.5})], {**RIGHT, "t1": right}, areas=areas))
    assert board["guard_rails"]["winner"] == outcome


def test_the_table_shows_the_metric_and_not_what_is_minimized(decided):
    board = leaderboard(decided("exact_match"))
    text = printed(board)
    assert "exact match" in text
    assert "0.600" in text
    assert "How sure: highest exact match of 3;" in verdict(board)
    assert np.isfinite(board["baseline"]["objective"])


def test_sweeps_that_other_metrics_decided_are_not_compared(decided):
    entries = [read_entry(decided(metric, name=metric)) for metric in ("nll", "exact_match")]
    assert "other metrics decided" in compare(entries)["differences"][0]["incomparable"]
