"""What a sweep ends with: the outcome first, in 80 columns, with commands that can be pasted."""

import io
import json
import re

import pytest
from rich.console import Console

from analysis.output.end_screen import Ranked, duration, fitting, print_end
from analysis.output.formats import change, labeled, rate, setting_words, share, signed
from analysis.output.leaderboard_notes import lines_below
from analysis.output.leaderboard_table import Column
from analysis.output.verdict import _recommended, _sureness, summary, verdict
from analysis.rank.leaderboard import leaderboard
from tests.unit.analysis.conftest import FakeTrial, end_screen, rewrite

PEAKS = {"t1": 7.6e-4, "t2": 3e-4, "t3": 8.7e-5}


def at(peak_lr):
    return {"peak_lr": peak_lr, "warmup_fraction": 0.05, "decay_floor": 4.4e-5}


@pytest.fixture
def board(write_sweep):
    """Three LRs, the highest tried best; no answer is right; the user's own scorer in one area."""
    gains = {"t1": 0.6, "t2": 0.4, "t3": 0.1}
    folder = write_sweep([FakeTrial(name, {10: gain}, params=at(PEAKS[name])) for name, gain in gains.items()])
    for path in folder.glob("trials/*/heldout.jsonl"):
        own = 0.75 if path.parent.name == "t1" else 0.25
        rewrite(path, lambda item, own=own: {**item, "exact_match": 0.0, **mine(item, own)})
    return leaderboard(folder)


def mine(item, value):
    return {"scores": {"number_within": value}} if item["area"] == "tables" else {}


def test_the_screen_says_lr_loss_metric_sureness_and_regressions_in_this_order(board):
    lines = {line.label: line for line in summary(board)}
    assert list(lines) == [
        *("Best learning rate", "Held-out loss", "Exact match", "Number within", "How sure", "Regressions"),
    ]
    assert lines["Best learning rate"].text == "7.6e-4, warm-up 5.0 %, floor 4.4e-5 (t1, step 10)"
    assert re.fullmatch(r"2\.12 → 1\.52 \(−0\.60, 95 % CI −0\.6\d to −0\.[56]\d\)", lines["Held-out loss"].text)
    assert lines["Exact match"].text == "0 % → 0 %; no answer is correct yet"
    assert lines["Exact match"].alarm
    assert lines["Number within"].text == "25 % → 75 %"
    assert lines["How sure"].text.startswith("lowest held-out loss of 3; seeds not measured")
    assert lines["Regressions"].text == "none: invoices −0.60, tables −0.60"
    assert verdict(board).startswith("Best learning rate: 7.6e-4, warm-up 5.0 %")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_longer_than_the_terminal_but_for_commands(board, width):
    shown = end_screen(board, width).splitlines()
    assert max(len(line) for line in shown if "python -m" not in line) <= min(width, 120)
    if width >= 80:
        assert max(map(len, shown)) <= width
        assert len(shown) <= 31
    assert "…" not in "".join(shown)


def test_the_leaderboard_has_the_lr_first_the_base_model_and_a_column_for_each_area_and_scorer(board):
    shown = end_screen(board)
    header = next(line for line in shown.splitlines() if line.lstrip().startswith("#"))
    assert header.split() == ["#", "peak", "LR", "loss", "best", "invoices", "tables", "match", "within", "trial"]
    lines = shown.splitlines()
    base, first, second = lines[lines.index(header) + 1 : lines.index(header) + 4]
    assert (base.split()[:2], base.split()[-2:]) == (["–", "base"], ["25", "%"])
    assert (first.split()[:2], first.split()[-1]) == (["1", "7.6e-4"], "t1")
    assert (second.split()[:2], second.split()[-1]) == (["2=", "3.0e-4"], "t2")


def test_warnings_are_true_and_the_commands_can_be_pasted(board):
    shown = " ".join(end_screen(board).split())
    assert "⚠ No answer is correct yet (exact match 0 %)." in shown
    assert "Only 3 trials finished. Run 8 or more." in shown
    for command in (
        "python -m analysis.export outputs/sweep --to best",
        "python -m analysis.rank outputs/sweep --full",
    ):
        assert command in shown
    assert "'out puts/sweep'" in end_screen(board, place="out puts/sweep")


def test_a_metric_that_is_0_for_all_ranks_nothing(board):
    lines = list(lines_below(board))
    assert "Exact match: 0 % for all, so it ranks nothing." in lines
    assert not any("Best by exact match" in line for line in lines)


def test_a_terminal_without_unicode_gets_ascii(board):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_end(board, Console(file=stream, width=80, highlight=False, markup=False, emoji=False), "outputs/sweep")
    stream.seek(0)
    assert "2.12 -> 1.52 (-0.60" in stream.read()


def test_the_columns_that_matter_least_go_first_and_are_named():
    columns = [
        Ranked(Column("peak LR", ["7.6e-4"])),
        Ranked(Column("first", ["1.000"]), 2, "area first"),
        Ranked(Column("second", ["2.000"]), 3, "area second"),
    ]
    assert fitting(columns, 40) == ([one.column for one in columns], [])
    kept, left = fitting(columns, 16)
    assert ([one.header for one in kept], left) == (["peak LR", "first"], ["area second"])
    kept, left = fitting(columns, 1)
    assert ([one.header for one in kept], left) == (["peak LR"], ["area first", "area second"])


def test_trials_that_diverged_or_failed_are_named_with_their_lr_and_reason(write_sweep):
    trials = [FakeTrial("t1", {9: 0.5}, params=at(3e-4)), FakeTrial("t2", {}, state="diverged", params=at(2e-3))]
    failed = FakeTrial("t3", {}, state="failed", params=at(1e-4), extra={"error": "Traceback\nValueError: no memory"})
    board = json.loads(json.dumps(leaderboard(write_sweep([*trials, failed]))))
    shown = end_screen(board)
    assert "3 trials: 1 completed, 1 diverged, 1 failed" in shown
    assert "Diverged: t2 · 2.0e-3." in shown
    assert "t3 · 1.0e-4 failed: ValueError: no memory" in shown


def test_a_winner_at_the_edge_is_better_than_the_others_alone():
    row = {"rank": 1, "tied": False, "params": {"peak_lr": 5e-5}, "setting": {"replicated": False}}
    separation = {"comparisons": 1, "seed_sd_source": "config", "seed_sd": 0.012, "seed_sd_df": None}
    board = {"rows": [row, {**row, "rank": 2}], "separation": separation}
    inside, edge = (_sureness({**board, "advice": [{"rule": rule}]}).text for rule in ("resize", "at_an_end"))
    assert inside == "significantly better than the other setting (items and seed SD 0.012 as the config states)"
    assert edge == f"{inside}; it lies at the edge of what was tried, a better one may lie beyond"


def test_a_rule_of_thumb_that_diverged_is_said():
    found = {"trial_id": "t1", "lead": None, "lead_interval": None, "worthwhile": 0.01, "outcome": "diverged"}
    board = {"rows": [{"trial_id": "t1", "rank": None, "params": {"peak_lr": 3e-4}}], "recommended": found}
    (line,) = _recommended(board)
    assert (line.label, line.text, line.value) == ("Rule of thumb", "t1 · 3.0e-4 diverged", "diverged")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (rate(7.6e-4), "7.6e-4"),
        (rate(1e-3), "1.0e-3"),
        (rate(None), "-"),
        (signed(-2.391), "−2.39"),
        (change(-2.391, [-2.8, -2.01]), "−2.39, 95 % CI −2.80 to −2.01"),
        (change(0.0456, None), "+0.046"),
        (share(0.375), "38 %"),
        (share(12.5), "12.5"),
        (labeled("t0003", {"peak_lr": 7.6e-4}), "t0003 · 7.6e-4"),
        (
            setting_words({"lora_r": 16, "warmup_fraction": 0.076, "peak_lr": 7.6e-4}),
            "7.6e-4, warm-up 7.6 %, lora_r 16",
        ),
        (duration(40), "40 s"),
        (duration(720), "12 min"),
        (duration(9000), "2.5 h"),
    ],
)
def test_figures_are_written_as_people_write_them(shown, expected):
    assert shown == expected
