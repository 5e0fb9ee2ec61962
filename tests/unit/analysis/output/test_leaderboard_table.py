"""Boards of earlier versions are still summed up and shown; a full board keeps its width."""

import pytest

from analysis.output.verdict import verdict
from analysis.rank.leaderboard import leaderboard
from tests.unit.analysis.conftest import printed

OLD_ROW = {
    "step": 10,
    "state": "complete",
    "findings": 0,
    "params": {"peak_lr": 1e-3},
    "cost": {},
    "checkpoints": [],
    "error": None,
    "areas": {},
    "replicates": [],
    "objective": 1.0,
    "gain": 0.5,
    "gain_interval": [0.4, 0.6],
    "behind": 0.0,
    "behind_interval": [-0.1, 0.1],
}
OLD = {
    "name": "old",
    "winner": {"trial_id": "t1", "step": 10},
    "tied": [{"trial_id": "t2", "step": 10}],
    "rows": [
        {"rank": 1, "trial_id": "t1", "tied": False, **OLD_ROW},
        {"rank": 2, "trial_id": "t2", "tied": True, **OLD_ROW},
    ],
    "baseline": {"objective": 1.5, "areas": {"a": {"nll": 1.5}}},
    "weights": {"a": 1.0},
    "intervals": {"level": 0.95, "scope": "items only, seeds not covered yet", "winner": "optimistic"},
    "notes": [],
}


def test_a_board_of_the_first_version_is_still_summed_up_and_shown():
    sentence = verdict(OLD)
    start = "Best learning rate: 1.0e-3, one of 2 that tie (t1, step 10). "
    start += "Held-out loss: 1.50 → 1.00 (−0.50, 95 % CI −0.60 to −0.40)."
    assert sentence.startswith(start)
    assert sentence.endswith(" How sure: tie with t2 · 1.0e-3 (items only, seeds not covered yet).")
    shown = printed({**OLD, "verdict": sentence})
    assert "0.000 [-0.100, 0.100]" in shown
    assert "regression check" not in shown
    assert "more data" not in shown


@pytest.mark.parametrize("width", [60, 100, 120])
def test_the_table_of_a_confirmed_sweep_with_guard_rails_keeps_its_width(confirmed, width):
    text = (confirmed / "sweep.yaml").read_text()
    (confirmed / "sweep.yaml").write_text(text.replace("weight: 1.0", "weight: 1.0\n      not_worse_by: 0.0"))
    shown = printed(leaderboard(confirmed), width)
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    for text in ("regression check", "mean held-out loss", "Leave one area out: "):
        assert text in words
    assert words.count("Leave one area out") == 1
