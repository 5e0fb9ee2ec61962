"""The one command: each name runs its module, and a foreign package is one line."""

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import llm_sweeps
from llm_sweeps import COMMANDS, main

ROOT = Path(llm_sweeps.__file__).parent


def test_every_command_has_a_main_that_shows_help():
    for module, _, _ in COMMANDS.values():
        assert callable(importlib.import_module(module).main), module


def test_arguments_reach_the_module_behind_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr("sweeps.run.main", lambda arguments: seen.append(arguments) or 0)
    assert [main(["plan", "my.yaml", "a=1"]), main(["resume", "outputs/x"]), main(["run", "my.yaml"])] == [0, 0, 0]
    assert seen == [["--plan", "my.yaml", "a=1"], ["--resume", "outputs/x"], ["my.yaml"]]


def test_help_version_and_completion_name_every_command(capsys):
    assert main(["--help"]) == main([]) == main(["completion"]) == main(["--version"]) == 0
    printed = capsys.readouterr().out
    for name, (_, _, text) in COMMANDS.items():
        assert printed.count(f"\n  {name} ") == 2, "once in each help"
        assert printed.count(text) == 2
    assert f'complete -W "{" ".join(COMMANDS)}" llm-sweeps' in printed
    assert f"llm-sweeps {version('llm-sweeps')}" in printed.splitlines()


def test_an_unknown_command_is_one_line(capsys):
    assert main(["tune"]) == 2
    assert capsys.readouterr().err.startswith("error: arguments: must begin with a command, got tune; one of init, ")


@pytest.mark.parametrize("package", ["sweeps", "analysis"])
def test_a_foreign_package_of_the_same_name_is_one_line(tmp_path, package):
    foreign = tmp_path / package
    foreign.mkdir()
    (foreign / "__init__.py").write_text("")
    (foreign / "run.py").write_text("raise SystemExit('the wrong program ran')")
    # As the installed script does: its own folder is not first on the path, another distribution's may be.
    start = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import llm_sweeps; sys.exit(llm_sweeps.main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, "run", "x.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: Python: must import this project's package {package}, got {foreign}; ")
    assert len(done.stderr.splitlines()) == 1
