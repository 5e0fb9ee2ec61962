"""The whole leaderboard: replicates, guard-rails, sealed areas, corrected gains, boards of earlier versions."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.export.checkpoint_choice import choose
from analysis.rank.leaderboard import leaderboard
from tests.unit.analysis.conftest import FakeTrial, printed, replicate, worse_in, write_sweep_in


def test_replicates_decide_and_the_winner_is_the_lowest_checkpoint_of_the_winning_setting(confirmed):
    board = leaderboard(confirmed)
    assert [(row["rank"], row["trial_id"]) for row in board["rows"]] == [(1, "t2"), (2, "t1"), (3, "t3")]
    assert board["winner"] == {"trial_id": "t2-s2", "step": 10}
    assert board["winner_setting"] == "t2"
    best = board["rows"][0]
    assert (best["step"], best["best"]) == (10, board["winner"])
    assert [(r["trial_id"], r["seed"]) for r in best["replicates"]] == [("t2-s1", 1), ("t2-s2", 2)]
    assert best["replicates"][1]["checkpoints"][1]["path"] == "trials/t2-s2/checkpoints/step-10"
    assert best["setting"]["gain"] == pytest.approx(0.59, abs=0.01)
    low, high = best["setting"]["gain_interval"]
    assert low < best["setting"]["gain"] < high
    assert board["winner_gain"]["plain"] == pytest.approx(0.61, abs=0.01)
    assert board["separation"]["seed_sd_source"] == "replicates"
    assert board["separation"]["seed_sd_df"] == 1
    assert board["verdict"].startswith("Best learning rate: 3.0e-4, one of 3 that tie, warm-up 5.0 % (t2-s2, step 10).")
    assert (
        " How sure: tie with t1 · 3.0e-4 over new seeds: no significant difference, either is fine (items"
        in board["verdict"]
    )
    assert "against the base model, mean of 2 new seeds." in board["verdict"]
    shown = printed(board)
    assert "mean held-out loss" in shown
    assert "More seeds of t2 · 3.0e-4: t2-s1 (seed 1) 1." in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_a_stated_seed_variance_decides_between_tie_and_winner(write_sweep):
    def board(name, **confirm):
        trials = [FakeTrial("t1", {9: 0.50}), FakeTrial("t2", {9: 0.45})]
        return leaderboard(write_sweep(trials, name=name, confirm=confirm))

    sure, unsure, unknown = board("sure", seed_sd=0.01), board("unsure", seed_sd="3e-2"), board("unknown")
    assert (sure["tied"], unsure["tied"]) == ([], [{"trial_id": "t2", "step": 9}])
    assert sure["rows"][1]["behind_interval"] == unsure["rows"][1]["behind_interval"]  # of checkpoints: items alone
    assert (unknown["tied"], unknown["separation"]["seed_sd"]) == (unsure["tied"], None)
    assert unknown["separation"]["seed_sd_source"] == "unknown"
    assert (
        "How sure: lowest held-out loss of 2; seeds not measured (confirm.budget measures them)." in unknown["verdict"]
    )
    assert "How sure: tie with t2 · 3.0e-4: the difference is not significant" in unsure["verdict"]
    assert "seed SD 0.030 as the config states" in unsure["verdict"]
    assert "How sure: significantly better than the other setting (items and seed SD 0.010" in sure["verdict"]


def test_the_gain_is_corrected_for_having_been_selected(write_sweep):
    folder = write_sweep([FakeTrial(f"t{i}", {5: 0.3, 10: 0.3}, noise=0.4) for i in range(8)])
    board = leaderboard(folder)
    gain = board["winner_gain"]
    assert gain["corrected"] < gain["plain"] - 0.02
    width = gain["plain_interval"][1] - gain["plain_interval"][0]
    assert gain["corrected_interval"][1] - gain["corrected_interval"][0] == pytest.approx(width)
    assert f"corrected for selection −{gain['corrected']:.2f}, 95 % CI −" in board["verdict"]
    assert f"Selection-bias-corrected gain of the best: {gain['corrected']:.3f} [" in printed(board)
    assert "optimistic: the lowest of 16 checkpoints" in board["intervals"]["winner"]


RAILS = {"invoices": {"not_worse_by": 0.05}, "tables": {"not_worse_by": "5e-2"}}


def test_a_winner_that_fails_a_guard_rail_is_named_with_the_best_that_passes(write_sweep):
    folder = write_sweep([FakeTrial("t1", {9: 0.9}), FakeTrial("t2", {9: 0.2}), FakeTrial("t3", {9: 0.1})], areas=RAILS)
    worse_in(folder, "t1", tables=1.2)
    board = leaderboard(folder)
    assert board["winner"]["trial_id"] == "t1"
    assert [row["guard_rail"] for row in board["rows"]] == ["fail", "pass", "pass"]
    rail = board["rows"][0]["guard_rails"]["tables"]
    assert (rail["outcome"], rail["allowed"]) == ("fail", 0.05)
    assert rail["delta"] == pytest.approx(0.3, abs=0.02)
    assert rail["p_fail"] < 0.001 < rail["p_pass"]
    assert board["guard_rails"]["best_passing"] == {"trial_id": "t2", "step": 9}
    failed = f"Regressions: tables {rail['delta']:+.2f} (allowed 0.05); best without any: t2 · 3.0e-4."
    assert failed in board["verdict"]
    shown = printed(board)
    assert "fail 1 of 2" in shown
    assert "] !" in shown


def test_an_undecided_guard_rail_is_said(write_sweep):
    board = leaderboard(write_sweep([FakeTrial("t1", {9: 0.0}, noise=0.8)], areas=RAILS))
    assert board["rows"][0]["guard_rail"] == "undecided"
    assert "Regressions: undecided, too few items: " in board["verdict"]
    assert board["guard_rails"]["best_passing"] is None


def test_a_sealed_area_never_counts_and_is_shown_apart(write_sweep):
    weights = {"invoices": 1.0, "tables": 1.0, "intent": 1.0}
    areas = {"intent": {"role": "sealed", "not_worse_by": 0.0}}
    folder = write_sweep([FakeTrial("t1", {9: 0.5}), FakeTrial("t2", {9: 0.3})], weights, areas=areas)
    worse_in(folder, "t1", intent=5.0)
    for path in folder.glob("trials/t2/heldout.jsonl"):  # as it is: only the winner is ever scored there
        path.write_text("".join(line for line in path.read_text().splitlines(True) if '"area": "intent"' not in line))
    board = leaderboard(folder)
    assert board["winner"]["trial_id"] == "t1"
    assert set(board["weights"]) == set(board["rows"][0]["areas"]) == {"invoices", "tables"}
    assert board["rows"][1]["rank"] == 2
    assert board["rows"][0]["guard_rail"] is None
    assert board["sealed"]["intent"]["delta"] == pytest.approx(4.5, abs=0.02)
    assert "Final test set: intent, loss 6.50 (+4.50, 95 % CI +4.49 to +4.50 against base), exact" in board["verdict"]
    assert "Final test set intent (sealed, no part in the ranking): loss 6." in printed(board)
    assert f"({board['sealed']['intent']['delta']:+.3f}, 95 % CI +" in printed(board)


@pytest.mark.parametrize(("against_winner", "worse"), [(-0.2, False), (0.0, False), (0.3, True)])
def test_a_retrained_winner_is_judged_by_sealed_areas_alone(write_sweep, against_winner, worse):
    again = {"kind": "retrain", "replicate_of": "t1"}
    trials = [FakeTrial("t1", {9: 0.5}), FakeTrial("t1-retrained", {6: 0.5 - against_winner, 12: 0.9}, extra=again)]
    weights = {"invoices": 1.0, "intent": 1.0}
    board = leaderboard(write_sweep(trials, weights, areas={"intent": {"role": "sealed"}}))
    assert [row["trial_id"] for row in board["rows"]] == ["t1"]
    found = board["retrained"]
    assert (found["trial_id"], found["step"], found["worse"]) == ("t1-retrained", 6, worse)
    assert found["delta"] == pytest.approx(against_winner, abs=0.02)
    assert set(found["sealed"]) == {"intent"}
    exported = choose(board, None, None, [])
    assert (exported.trial_id, exported.retrained) == (("t1", False) if worse else ("t1-retrained", True))
    assert choose(board, "t1", None, []).trial_id == "t1"
    assert choose(board, "t1-retrained", None, []).retrained
    fate = "significantly worse and not exported" if worse else "is what analysis.export writes"
    assert fate in " ".join(printed(board).split())


def test_the_winner_without_an_area_is_said(write_sweep):
    folder = write_sweep([FakeTrial("t1", {9: 0.5}), FakeTrial("t2", {9: 0.5})])
    worse_in(folder, "t1", tables=-0.5)
    worse_in(folder, "t2", invoices=-0.2)
    board = leaderboard(folder)
    left_out = {area: pair["trial_id"] for area, pair in board["beside"]["leave_one_area_out"].items()}
    assert left_out == {"invoices": "t1", "tables": "t2"}
    assert "Leave one area out: another setting is best without tables t2 · 3.0e-4." in printed(board)


def test_few_clusters_are_said(write_sweep):
    few = leaderboard(write_sweep([FakeTrial("t1", {9: 0.5})], items=38, name="few"))["notes"]
    assert few == [
        "intervals are too narrow where an area has fewer than 20 clusters of items (invoices 19, tables 19)"
    ]
    assert leaderboard(write_sweep([FakeTrial("t1", {9: 0.5})], items=40, name="enough"))["notes"] == []


def test_a_replicate_of_a_trial_without_rank_never_wins(write_sweep):
    trials = [FakeTrial("t1", {9: 0.2}), FakeTrial("t2", {}, state="diverged"), replicate("t2", 1, {9: 0.9})]
    board = leaderboard(write_sweep([*trials, replicate("gone", 1, {9: 0.9})]))
    assert [(r["trial_id"], r["rank"], len(r["replicates"])) for r in board["rows"]] == [
        ("t1", 1, 0),
        ("gone-s1", None, 0),
        ("t2", None, 1),
    ]
    assert any("t2-s1 replicates t2, which has no rank" in note for note in board["notes"])


def ended_in(order, folder):
    lines = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (folder / "trials.jsonl").write_text("".join(lines[i] for i in order))
    return leaderboard(folder)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_order_in_which_trials_end_changes_nothing(data):
    gains = data.draw(st.lists(st.sampled_from([0.0, 0.3, 0.31, 0.6]), min_size=2, max_size=4))
    trials = [FakeTrial(f"t{i}", {5: gain - 0.1, 9: gain}) for i, gain in enumerate(gains)]
    trials += [replicate(f"t{i}", seed, {9: gain}) for i, gain in enumerate(gains[:2]) for seed in (1, 2)]
    for trial in trials:
        trial.state = data.draw(st.sampled_from(["complete", "complete", "diverged", "pruned"]))
    with tempfile.TemporaryDirectory() as place:
        areas = {"b": {"not_worse_by": 0.1}}
        folder = write_sweep_in(Path(place), trials, dict.fromkeys("ab", 1.0), 6, areas=areas)
        before = leaderboard(folder)
        assert ended_in(tuple(data.draw(st.permutations(range(len(trials))))), folder) == before
    ranked = [row for row in before["rows"] if row["rank"]]
    assert all(row["state"] == "complete" for row in ranked)
    assert bool(before["winner"]) == any(trial.state == "complete" and trial.extra == {} for trial in trials)
