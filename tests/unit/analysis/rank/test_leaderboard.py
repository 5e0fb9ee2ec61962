"""Who wins, who is tied, who has no rank; and that the table shows it whole at any width."""

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.rank.__main__ import main
from analysis.rank.leaderboard import leaderboard, write_leaderboard
from analysis.records.sweep import read_sweep
from tests.unit.analysis.conftest import FakeTrial, append, printed, rewrite, trial_line, worse_in

ROOT = Path(__file__).parents[4]


def row_of(board, trial_id):
    return next(row for row in board["rows"] if row["trial_id"] == trial_id)


def rank_command(*arguments, columns=80):
    return subprocess.run(
        [sys.executable, "-m", "analysis.rank", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": str(columns)},
        capture_output=True,
        text=True,
    )


def test_the_lowest_objective_wins_with_its_gain_and_interval(write_sweep):
    trials = [FakeTrial("t1", {5: 0.2, 10: 0.5}), FakeTrial("t2", {5: 0.3, 10: 0.4})]
    folder = write_sweep(trials, confirm={"seed_sd": 0.01})
    board = leaderboard(folder)
    assert board["winner"] == {"trial_id": "t1", "step": 10}
    assert board["tied"] == []
    assert [(row["rank"], row["trial_id"]) for row in board["rows"]] == [(1, "t1"), (2, "t2")]
    best = board["rows"][0]
    items = read_sweep(folder).heldout("t1").by_step[10].values()
    means = [sum(i.nll for i in items if i.area == area) / 40 for area in ("invoices", "tables")]
    assert best["objective"] == pytest.approx(sum(means) / 2)
    assert best["gain"] == pytest.approx(board["baseline"]["objective"] - best["objective"])
    assert best["gain"] == pytest.approx(0.5, abs=0.01)
    assert best["gain_interval"][0] < best["gain"] < best["gain_interval"][1]
    assert best["areas"]["tables"]["nll"] == pytest.approx(means[1])
    assert best["areas"]["tables"]["delta"] == pytest.approx(-0.5, abs=0.02)
    low, high = best["areas"]["tables"]["delta_interval"]
    assert low < best["areas"]["tables"]["delta"] < high < 0
    assert best["areas"]["tables"]["exact_match"] == 0.25
    assert [(c["step"], round(c["gain"], 1)) for c in best["checkpoints"]] == [(5, 0.2), (10, 0.5)]
    assert board["rows"][1]["behind"] == pytest.approx(0.1, abs=0.01)
    assert board["intervals"]["scope"] == "items, not seeds"


def test_an_earlier_checkpoint_can_win_and_equals_are_a_tie_decided_by_step_and_id(write_sweep):
    board = leaderboard(write_sweep([FakeTrial("t1", {5: 0.6, 10: 0.5}), FakeTrial("t2", {10: 0.55})]))
    assert board["winner"] == {"trial_id": "t1", "step": 5}
    assert board["rows"][0]["areas"]["tables"]["exact_match"] is None  # answers only at the last checkpoint
    board = leaderboard(write_sweep([FakeTrial(t, {10: 0.5}, noise=0.0) for t in ("b", "a")], name="equals"))
    assert board["winner"] == {"trial_id": "a", "step": 10}
    assert board["tied"] == [{"trial_id": "b", "step": 10}]


def test_trials_within_the_noise_are_tied_and_a_clear_loser_is_not(write_sweep):
    trials = [FakeTrial("a", {9: 0.5}, noise=0.2), FakeTrial("b", {9: 0.5}, noise=0.2), FakeTrial("c", {9: 0.1})]
    board = leaderboard(write_sweep(trials, confirm={"seed_sd": 0.012}))
    assert {board["winner"]["trial_id"], *(t["trial_id"] for t in board["tied"])} == {"a", "b"}
    assert board["tied"][0]["step"] == 9
    assert [row["tied"] for row in board["rows"]] == [False, True, False]
    low, high = board["rows"][1]["behind_interval"]
    assert low <= 0 <= high
    assert "How sure: tie with " in board["verdict"]
    assert "items and seed SD 0.012 as the config states" in board["verdict"]


@pytest.mark.parametrize(("invoices", "tables", "winner"), [(3.0, 1.0, "t1"), (1.0, 3.0, "t2")])
def test_weights_decide_between_areas(write_sweep, invoices, tables, winner):
    trials = [FakeTrial("t1", {9: 0.5}), FakeTrial("t2", {9: 0.5})]
    folder = write_sweep(trials, {"invoices": invoices, "tables": tables})
    worse_in(folder, "t1", invoices=-0.2)
    worse_in(folder, "t2", tables=-0.2)
    assert leaderboard(folder)["winner"]["trial_id"] == winner


def test_the_order_of_trials_and_items_changes_nothing(write_sweep):
    folder = write_sweep([FakeTrial(f"t{i}", {5: 0.3, 10: 0.3 + i / 50}, noise=0.2) for i in range(5)])
    before = leaderboard(folder)
    for path in [folder / "trials.jsonl", *folder.glob("trials/*/heldout.jsonl")]:
        lines = path.read_text().splitlines(keepends=True)
        random.Random(1).shuffle(lines)
        path.write_text("".join(lines))
    assert leaderboard(folder) == before


def spoiled(value):
    """Gives one item this loss."""
    return lambda item: {**item, "nll": value} if item["id"] == "tables-3" else item


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        *((spoiled(value), "not finite on 1 items") for value in (math.nan, None, math.inf, -math.inf)),
        (lambda item: None, "no held-out scores"),
        (lambda item: None if item["area"] == "tables" else item, "no held-out scores in tables"),
        (lambda item: None if item["id"] == "tables-1" else item, "1 missing, 0 unknown"),
        (lambda item: {**item, "id": item["id"].replace("tables-1", "x")}, "11 missing, 11 unknown"),
    ],
)
def test_a_trial_without_a_finite_loss_on_every_item_has_no_rank(write_sweep, change, defect):
    low = {"areas": {"invoices": {"nll": 0.1}, "tables": {"nll": 0.1}}}  # a summary must not stand in for the items
    extra = {"checkpoints": [{"step": 9, "path": "x", **low}]}
    folder = write_sweep([FakeTrial("best", {9: 0.9}, extra=extra), FakeTrial("t2", {9: 0.2})])
    rewrite(folder / "trials" / "best" / "heldout.jsonl", change)
    board = write_leaderboard(folder)
    assert board["winner"]["trial_id"] == "t2"
    row = row_of(board, "best")
    assert (row["rank"], row["objective"], row["tied"]) == (None, None, False)
    assert defect in row["checkpoints"][0]["defect"]
    assert "NaN" not in (folder / "leaderboard.json").read_text()


def test_scores_of_a_step_without_checkpoint_do_not_compete(write_sweep):
    kept = {"checkpoints": [{"step": 9, "path": "x", "areas": {}}]}
    board = leaderboard(write_sweep([FakeTrial("t1", {5: 0.9, 9: 0.2}, extra=kept), FakeTrial("t2", {9: 0.4})]))
    assert board["winner"] == {"trial_id": "t2", "step": 9}
    assert any("steps [5]" in note for note in board["notes"])


def test_own_scorers_of_an_area_are_passed_on(write_sweep):
    checkpoints = [{"step": 9, "path": "x", "areas": {"tables": {"nll": 7.0, "number_within": 0.75}}}]
    board = leaderboard(write_sweep([FakeTrial("t1", {9: 0.2}, extra={"checkpoints": checkpoints})]))
    assert board["rows"][0]["areas"]["tables"]["number_within"] == 0.75
    assert board["rows"][0]["areas"]["tables"]["nll"] != 7.0


def test_without_base_scores_there_is_a_rank_but_neither_gain_nor_guard_rail(write_sweep):
    areas = {"invoices": {"not_worse_by": 0.05}}
    board = leaderboard(write_sweep([FakeTrial("t1", {9: 0.2}), FakeTrial("t2", {9: 0.4})], base=False, areas=areas))
    assert board["winner"]["trial_id"] == "t2"
    assert (board["rows"][0]["guard_rail"], board["winner_gain"]) == (None, None)
    assert "regression check" not in printed(board)
    assert (board["rows"][0]["gain"], board["rows"][0]["gain_interval"]) == (None, None)
    assert board["rows"][1]["behind_interval"][0] > 0
    assert "the base model was not scored" in board["verdict"]
    summaries_only = write_sweep([FakeTrial("t1", {9: 0.2})], name="summaries")
    (summaries_only / "trials" / "baseline" / "heldout.jsonl").unlink()
    row = leaderboard(summaries_only)["rows"][0]
    assert (row["gain"], row["areas"]["tables"]["delta"]) == pytest.approx((0.2, -0.2), abs=0.02)
    assert row["gain_interval"] is None


def test_one_cluster_an_area_means_no_interval_and_therefore_a_tie(write_sweep):
    folder = write_sweep([FakeTrial("t1", {9: 0.2}), FakeTrial("t2", {9: 0.4})])
    for path in folder.glob("trials/*/heldout.jsonl"):
        rewrite(path, lambda item: {**item, "group": "all"})
    board = leaderboard(folder)
    assert board["winner"]["trial_id"] == "t2"
    assert board["tied"] == [{"trial_id": "t1", "step": 9}]
    assert board["rows"][1]["behind_interval"] is None


@pytest.mark.parametrize(
    ("gain", "noise", "words"),
    [
        (0.5, 0.02, r"^Best learning rate: 3.0e-4, warm-up 5.0 % \(t1, step 9\). Held-out loss: 2.12 → 1.62 \(−0.50"),
        (0.0, 0.3, "; not significantly better than the base model"),
        (-0.5, 0.02, "; worse than the base model"),
    ],
)
def test_the_verdict_says_whether_the_base_model_was_beaten(write_sweep, gain, noise, words):
    assert re.search(words, leaderboard(write_sweep([FakeTrial("t1", {9: gain}, noise=noise)]))["verdict"])


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (["pruned", "diverged"], "nothing can be ranked (2 trials: 1 diverged, 1 stopped early)"),
        ([], "nothing can be ranked (no trial has finished)"),
    ],
)
def test_no_complete_trial_means_no_winner_and_exit_code_3(write_sweep, states, words):
    folder = write_sweep([FakeTrial(f"t{i}", {9: 0.5}, state=state) for i, state in enumerate(states)])
    done = rank_command(str(folder))
    assert (done.returncode, done.stderr) == (3, "")
    assert words in " ".join(done.stdout.split())
    written = json.loads((folder / "leaderboard.json").read_text())
    assert (written["winner"], written["tied"], len(written["rows"])) == (None, [], len(states))


def test_json_on_stdout_is_the_written_board_and_carries_the_contracts_keys(confirmed):
    append(confirmed / "trials.jsonl", trial_line(FakeTrial("t4", {}, state="failed", extra={"error": "boom"})))
    board = write_leaderboard(confirmed)
    done = rank_command(str(confirmed), "--json")
    assert done.returncode == 0
    assert done.stdout == (confirmed / "leaderboard.json").read_text()
    read = json.loads(done.stdout)
    assert read == board
    assert printed(read) == printed(board)
    assert {"winner", "tied", "rows"} <= set(read)
    assert set(read["winner"]) == {"trial_id", "step"}
    assert [path.name for path in confirmed.iterdir() if "leaderboard" in path.name] == ["leaderboard.json"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other_file(write_sweep, monkeypatch, capsys):
    folder = write_sweep([FakeTrial("t1", {9: 0.5})])
    write_leaderboard(folder)
    before = (folder / "leaderboard.json").read_text()

    def no_space(_descriptor):
        raise OSError(28, "No space left on device", "leaderboard.json")

    monkeypatch.setattr(os, "fsync", no_space)
    assert main([str(folder)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert (folder / "leaderboard.json").read_text() == before
    assert [path.name for path in folder.iterdir() if "leaderboard" in path.name] == ["leaderboard.json"]


def test_a_folder_that_can_only_be_read_is_ranked_all_the_same(write_sweep, monkeypatch, capsys):
    folder = write_sweep([FakeTrial("t1", {9: 0.5})])

    def read_only(place, _board):
        raise OSError(30, "Read-only file system", str(place / "leaderboard.json"))

    monkeypatch.setattr("analysis.rank.__main__.save_leaderboard", read_only)
    assert main([str(folder), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["winner"] == {"trial_id": "t1", "step": 9}
    assert shown.err == f"note: {folder}/leaderboard.json is not written: Read-only file system\n"


@pytest.mark.parametrize("columns", [40, 80, 140, 200])
def test_the_table_shows_every_value_whole_at_any_width(write_sweep, columns):
    areas = {"contracts": 1.0, "fin_tables": 1.0, "invoices": 1.0, "short_reports": 1.0}
    params = {"peak_lr": 4.1e-4, "warmup_fraction": 0.071, "decay_floor": 4.87e-5, "lora_r": 16.0, "batch_size": 8.0}
    trials = [FakeTrial(f"t000{i}-a3f2", {25: 0.4, 50: 0.6 + i / 10}, params=params) for i in range(3)]
    folder = write_sweep([*trials, FakeTrial("t0009-dead", {}, state="diverged", params=params)], areas)
    done = rank_command(str(folder), "--full", columns=columns)
    assert done.returncode == 0
    assert "…" not in done.stdout
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines) <= columns
    board = json.loads((folder / "leaderboard.json").read_text())
    if columns >= 80:  # narrower, cells are folded
        first = board["rows"][0]
        low, high = first["gain_interval"]
        for text in [
            f"{-first['gain']:.3f} [{-high:.3f}, {-low:.3f}]",
            f"{first['areas']['short_reports']['nll']:.3f}  25 %",
            *("t0009-dead", "diverged", "4.1e-4", "4.9e-5", "7.1 %", "peak LR", "warm-up", "floor", "lora_r", *areas),
        ]:
            assert text in done.stdout
        table = lines[next(number for number, line in enumerate(lines) if line.startswith("base")) :]
        assert table[1].startswith("1 ")
        assert "t0002-a3f2" in table[1]
    assert "floor 4.9e-5, batch_size 8, lora_r 16 (t0002-a3f2, step 50)" in " ".join(done.stdout.split())
    assert "\x1b" not in done.stdout  # no colours outside a terminal


def test_text_in_brackets_is_shown_as_it_is(write_sweep):
    failed = FakeTrial("t2", {}, state="failed", extra={"error": "Traceback\n  x\nValueError: [red] is :bad: [/]"})
    assert "t2 · 3.0e-4 failed: ValueError: [red] is :bad: [/]" in rank_command(str(write_sweep([failed]))).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere/sweep"], r"error: /nowhere/sweep: must be the folder of a sweep, got no such folder; .+"),
        ([], r"error: arguments: must have DIR \(.+\), got none; usage: python -m analysis\.rank DIR"),
        (["x", "--jsn"], r"error: arguments: unrecognized arguments: --jsn, got x --jsn; see .+ --help"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message):
    done = rank_command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(message + "\n", done.stderr)
