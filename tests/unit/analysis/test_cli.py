"""What is wrong with a command line is one line: what is missing, what it is for, and how the command is called."""

import os

import pytest

from analysis.cli import Parser, run

NEEDED = "DIR (the sweep's folder)"
CASES = {
    "": f"must have {NEEDED} and --to (folder to write), got none; usage: python -m x DIR --to OUT",
    "a": "must have --to (folder to write), got a; usage: python -m x DIR --to OUT",
    "--to b": f"must have {NEEDED}, got --to b; usage: python -m x DIR --to OUT",
    "a --to b --step c": "argument --step: invalid int value: 'c', got a --to b --step c; see python -m x --help",
    "a --to b --stp 1": "unrecognized arguments: --stp 1, got a --to b --stp 1; see python -m x --help",
}


@pytest.mark.parametrize(("given", "line"), CASES.items())
def test_an_argument_that_is_missing_or_wrong_is_one_line(given, line, monkeypatch, capsys):
    parser = Parser("python -m x", "Does x.", "example: x")
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder")
    parser.add_argument("--to", metavar="OUT", required=True, help="folder to write")
    parser.add_argument("--step", type=int)
    monkeypatch.setattr("sys.argv", ["x", *given.split()])
    with pytest.raises(SystemExit, match="2"):
        parser.run(lambda _: 0, given.split())
    assert capsys.readouterr().err == f"error: arguments: {line}\n"


def test_a_current_folder_that_was_removed_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    assert run(os.getcwd) == 2
    line = "error: the current folder: must be there, got one that was removed; cd to another\n"
    assert capsys.readouterr().err == line
