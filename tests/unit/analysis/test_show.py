"""One trial in the terminal, and the leaderboard as CSV and with bars."""

import csv
import io
import json

import pytest
from rich.console import Console

from analysis import show
from analysis.output.leaderboard_table import print_board
from analysis.rank import __main__ as rank
from analysis.rank.leaderboard import leaderboard
from tests.unit.analysis.conftest import FakeTrial, replicate

FINDING = {"rule": "steady_rise", "severity": "warning", "step": 3, "evidence": {}, "advice": "lower peak_lr"}


@pytest.fixture
def folder(write_sweep):
    first = FakeTrial("t1", {5: 0.3, 10: 0.5}, extra={"findings": [FINDING], "drawn": {"decay_floor": 5e-5}})
    lost = FakeTrial("t2", {}, state="failed", extra={"error": "Traceback\nValueError: no [red]memory[/]"})
    folder = write_sweep([first, lost, replicate("t1", 1, {10: 0.4})])
    steps = [{"step": n, "loss": 3.0 - n / 5, "base_loss": 3.0, "lr": n * 1e-5, "tokens": 4} for n in range(1, 11)]
    (folder / "trials" / "t1" / "curve.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return folder


def test_a_trial_shows_its_settings_curve_scores_and_findings(folder, capsys):
    assert show.main([str(folder), "t1"]) == 0
    shown = capsys.readouterr().out
    for part in (
        *("t1 · 3.0e-4 of sweep: complete, seed 7", "peak LR 3.0e-4, warm-up 5.0 %", "sampled as floor 5.0e-5"),
        *("10 of 10 steps", "training loss − base model loss", "  -0.20 │", "  -1.80 │", "1.0e-05 │"),
        *("held-out loss at step 5: not scored", "step 3: steady_rise (warning): lower peak_lr"),
    ):
        assert part in shown
    curve = [line.partition("│")[2] for line in shown.splitlines() if "│" in line][: show.LOSS_LINES]
    first, last = (min(len(line) - len(line.lstrip()) for line in part if line) for part in (curve[:2], curve[-2:]))
    assert first < last  # the loss falls from left to right


def test_answers_that_were_cut_are_counted(write_sweep, capsys):
    areas = {"tables": {"nll": 1.0, "exact_match": 0.5, "cut_answers": 3, "items": 24}}
    one = FakeTrial("t1", {10: 0.5}, extra={"checkpoints": [{"step": 10, "path": "x", "areas": areas}]})
    assert show.main([str(write_sweep([one])), "t1"]) == 0
    assert "tables 1.000 (exact match 50 %, 3 of 24 answers cut at max_new_tokens)" in capsys.readouterr().out


def test_a_trial_without_a_curve_shows_its_error_and_one_that_is_not_there_is_refused_with_the_nearest(folder, capsys):
    assert show.main([str(folder), "t2"]) == 0
    shown = capsys.readouterr().out
    assert "error: ValueError: no [red]memory[/]" in shown
    assert "no loss curve" in shown
    assert show.main([str(folder), "t11"]) == 2
    assert "TRIAL: must be a finished trial of this sweep, got t11; did you mean t1" in capsys.readouterr().err


def test_csv_has_a_line_a_trial_with_the_leaderboards_figures_and_excludes_json(folder, capsys):
    assert rank.main([str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    board = leaderboard(folder)
    assert [row["trial_id"] for row in rows] == ["t1", "t1-s1", "t2"]
    first = board["rows"][0]
    assert float(rows[0]["gain"]) == first["gain"]
    assert [float(rows[0][end]) for end in ("gain_low", "gain_high")] == first["gain_interval"]
    assert float(rows[0]["invoices.delta"]) == first["areas"]["invoices"]["delta"]
    assert rows[1]["replicate_of"] == "t1"
    assert rows[2]["gain"] == ""
    assert float(rows[0]["param.peak_lr"]) == 3e-4
    with pytest.raises(SystemExit) as ended:
        rank.main([str(folder), "--json", "--csv"])
    assert ended.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_gains_are_drawn_as_bars_only_in_a_terminal(folder, terminal):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    print_board(leaderboard(folder), Console(file=stream, width=160, force_terminal=terminal, highlight=False))
    stream.seek(0)
    shown = stream.read()
    assert ("●" in shown) == terminal
    assert ("\x1b[" in shown) == terminal
