"""Reading a sweep runs no code of the user's: scorers are imported by `sweeps.run` alone."""

import sys

import pytest

from analysis.rank.__main__ import main as rank
from analysis.report.__main__ import main as report
from analysis.suspects.__main__ import main as suspects
from tests.unit.analysis.conftest import FakeTrial

SCORER = "imported_by_a_reader:score"


@pytest.fixture
def sweep(write_sweep, tmp_path, monkeypatch):
    (tmp_path / "imported_by_a_reader.py").write_text("raise AssertionError('a reader ran the code of a user')\n")
    monkeypatch.syspath_prepend(tmp_path)
    areas = {name: {"scorers": [SCORER]} for name in ("invoices", "tables")}
    return write_sweep([FakeTrial("t0001", {8: 0.1, 16: 0.3}), FakeTrial("t0002", {16: 0.1})], areas=areas)


@pytest.mark.parametrize("command", [rank, report, suspects], ids=["rank", "report", "suspects"])
def test_no_command_imports_a_scorer(sweep, command):
    command([str(sweep)])
    assert "imported_by_a_reader" not in sys.modules


def test_the_sweep_itself_would_import_it(sweep):
    from trainables.evaluation.scorers import load_scorers

    assert sweep
    with pytest.raises(AssertionError, match="a reader ran"):
        load_scorers([SCORER])
