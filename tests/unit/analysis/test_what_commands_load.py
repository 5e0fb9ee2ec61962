"""Reading a sweep runs no code of the user's: only `sweeps.run` imports scorers. Help waits for no framework."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.rank.__main__ import main as rank
from analysis.report.__main__ import main as report
from analysis.suspects.__main__ import main as suspects
from tests.unit.analysis.conftest import FakeTrial
from trainables.errors import UserError
from trainables.evaluation.scorers import load_scorers

ROOT = Path(__file__).parents[3]
SCORER = "imported_by_a_reader:score"
HEAVY = {"ray", "torch", "transformers", "peft", "wandb", "omegaconf", "optuna", "datasets"}


@pytest.fixture
def sweep(write_sweep, tmp_path, monkeypatch):
    (tmp_path / "imported_by_a_reader.py").write_text("raise AssertionError('a reader ran the code of a user')\n")
    monkeypatch.syspath_prepend(tmp_path)
    areas = {name: {"scorers": [SCORER]} for name in ("invoices", "tables")}
    return write_sweep([FakeTrial("t0001", {8: 0.1, 16: 0.3}), FakeTrial("t0002", {16: 0.1})], areas=areas)


@pytest.mark.parametrize("command", [rank, report, suspects], ids=["rank", "report", "suspects"])
def test_no_command_imports_a_scorer_and_the_sweep_itself_would(sweep, command):
    command([str(sweep)])
    assert "imported_by_a_reader" not in sys.modules
    with pytest.raises(UserError, match="a reader ran"):
        load_scorers([SCORER])


@pytest.mark.parametrize(
    ("command", "example"), [("rank", "outputs/"), ("export", "outputs/demo --to"), ("benchmark", "finance --areas")]
)
def test_help_has_an_example_and_imports_no_framework(command, example):
    code = (
        f"import sys, analysis.{command}.__main__ as command\n"
        "try: command.main(['--help'])\n"
        f"finally: print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert f"python -m analysis.{command} {example}" in done.stdout
    assert done.stdout.strip().endswith("[]")
