"""What takes all trials of a sweep: a winner by a single area, what more data would bring, samples to look at."""

import json

import numpy as np
import pytest

from analysis.rank.leaderboard import leaderboard, write_leaderboard
from tests.unit.analysis.conftest import FakeTrial, printed, worse_in, write_training_curve, write_training_set

SURE = {"seed_sd": 0.005}


def part(of, fraction, gain, **more):
    """A trial on a part of the samples."""
    extra = {"kind": "subset", "replicate_of": of, "fraction": fraction, **more}
    return FakeTrial(f"{of}-part{round(100 * fraction)}", {9: gain}, extra=extra)


def test_a_winner_by_a_single_area_is_said(write_sweep):
    folder = write_sweep([FakeTrial("t1", {9: 0.5}), FakeTrial("t2", {9: 0.3}), FakeTrial("t3", {9: 0.3})])
    assert leaderboard(folder)["findings"] == []
    worse_in(folder, "t1", tables=-0.5, invoices=0.4)
    board = leaderboard(folder)
    (finding,) = board["findings"]
    assert (finding["rule"], finding["step"], board["winner"]["trial_id"]) == ("one_area_winner", 9, "t1")
    assert (finding["evidence"]["won"], finding["evidence"]["lost"]) == ("tables", "invoices")
    assert finding["evidence"]["gain_on_tables"] == pytest.approx(0.7, abs=0.02)
    assert "heldout.areas.tables.weight 0.5" in finding["advice"]
    assert "one_area_winner (warning)" in printed(board)


def test_more_data_is_measured_by_the_winners_parts(write_sweep):
    trials = [FakeTrial("t1", {5: 0.2, 9: 0.5}), FakeTrial("t2", {9: 0.1})]
    parts = [part("t1", 0.25, 0.1), part("t1", 0.5, 0.3)]
    without = leaderboard(write_sweep(trials, name="without", confirm=SURE))
    assert (without["more_data"]["verdict"], without["more_data"]["trials"]) == ("not measured", {})
    assert "What more data would bring: not measured." in printed(without)
    board = leaderboard(write_sweep([*trials, *parts], confirm=SURE))
    found = board["more_data"]
    assert found["verdict"] == "more data helps"
    assert found["trials"] == {"quarter": "t1-part25", "half": "t1-part50", "full": "t1"}
    assert found["from_quarter"][0] == pytest.approx(0.2, abs=0.02)
    assert found["from_half"][0] == pytest.approx(0.2, abs=0.02)
    assert "the second half brought 0." in printed(board)


def test_parts_have_no_place_in_the_ranking(write_sweep):
    """Even where one of them is lowest."""
    trials = [FakeTrial("t1", {9: 0.5}, noise=0.0), FakeTrial("t2", {9: 0.1}, noise=0.0)]
    parts, stated = [part("t1", 0.25, 0.9), part("t1", 0.5, 0.8)], {"seed_sd": 0.001}
    alone = leaderboard(write_sweep(trials, name="alone", confirm=stated))
    board = leaderboard(write_sweep([*trials, *parts], name="with", confirm=stated))
    assert board["winner"] == {"trial_id": "t1", "step": 9}
    assert [row["trial_id"] for row in board["rows"]] == ["t1", "t2"]
    same = set(board) - {"name", "more_data", "verdict"}
    assert board["verdict"].startswith(alone["verdict"])
    assert {key: board[key] for key in same} == {key: alone[key] for key in same}
    assert board["more_data"]["verdict"] == "more data hardly helps"
    unknown = leaderboard(write_sweep([*trials, *parts], name="seeds unknown"))
    assert unknown["more_data"]["verdict"] == "undecided"


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([part("t1", 0.25, 0.1)], id="no half"),
        pytest.param([part("t1", 0.25, 0.1), part("t1", 0.5, 0.3, state="failed")], id="half failed"),
        pytest.param([part("gone", 0.25, 0.1), part("gone", 0.5, 0.3)], id="no such trial"),
    ],
)
def test_with_a_part_missing_it_is_not_measured(write_sweep, parts):
    board = leaderboard(write_sweep([FakeTrial("t1", {9: 0.5}), *parts]))
    assert board["more_data"]["verdict"] == "not measured"


def test_the_winners_parts_count_before_those_of_others(write_sweep):
    others = [part("t2", 0.25, 0.1), part("t2", 0.5, 0.2)]
    own = [part("t1", 0.25, 0.1), part("t1", 0.5, 0.3)]
    trials = [FakeTrial("t1", {9: 0.5}), FakeTrial("t2", {9: 0.3})]
    assert leaderboard(write_sweep([*trials, *others], name="a"))["more_data"]["trials"]["full"] == "t2"
    assert leaderboard(write_sweep([*trials, *others, *own], name="b"))["more_data"]["trials"]["full"] == "t1"


def test_samples_to_look_at_are_shown_with_the_leaderboard(write_sweep):
    folder = write_sweep([FakeTrial("t1", {9: 0.5})])
    board = write_leaderboard(folder)
    assert board["suspects"]["samples"] == []
    assert "Possibly mislabeled training samples: not known (" in " ".join(printed(board).split())
    samples = [f"s{index}" for index in range(40)]
    write_training_set(folder, samples)
    write_training_curve(folder, "t1", samples, np.random.default_rng(0), "s17")
    board = write_leaderboard(folder)
    first = board["suspects"]["samples"][0]
    assert (first["id"], first["kind"]) == ("s17", "number")
    assert first["excess_nats"] == pytest.approx(3.0, abs=0.3)
    assert "s17 +" in printed(board)
    assert json.loads((folder / "leaderboard.json").read_text())["suspects"] == board["suspects"]
