"""The report: one page, whole without a network, and safe with whatever text the data hold."""

import json
import re

import pytest

from analysis.figures import smoothed
from analysis.report import main, write_report

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def folder(write_sweep, fake_trial):
    finding = {"rule": "divergence", "severity": "error", "step": 3, "evidence": {}, "advice": EVIL}
    folder = write_sweep(
        [fake_trial("t0001", {10: 0.5}, extra={"findings": [finding]}), fake_trial("t0002", {10: 0.2})]
    )
    for trial in ("t0001", "t0002"):
        curve = [{"step": step, "loss": 2.0 / step, "lr": 1e-4} for step in range(1, 6)]
        curve[2]["loss"] = None
        (folder / "trials" / trial / "curve.jsonl").write_text("".join(json.dumps(step) + "\n" for step in curve))
    return folder


def test_every_section_is_there_and_nothing_is_fetched(folder):
    page = write_report(folder).read_text()
    for heading in ("Leaderboard", "Areas", "Held-out loss by peak LR", "Loss curves and LR schedules", "Findings"):
        assert f"<h2>{heading}</h2>" in page
    assert "Winner: t0001" in page
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)


def test_text_of_the_users_is_escaped(folder):
    page = write_report(folder).read_text()
    assert EVIL not in page
    assert "&lt;img src=x" in page


def test_the_command_says_where_the_page_lies(folder, capsys, tmp_path):
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_means_leave_out_what_is_not_finite():
    assert smoothed([1.0, 3.0, None, 4.0, 6.0], 2) == [1.0, 2.0, None, None, 5.0]
