"""The command `llm-sweeps`: every command of the project under one name.

A module of its own, outside the packages: another distribution's package `sweeps` (W&B's has a `sweeps/run.py`) would
otherwise be run in their place without a word.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import version
from pathlib import Path

# Command: (module, arguments put before the user's, what it does).
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "init": ("sweeps.init", (), "write a config after a look at a data file"),
    "plan": ("sweeps.run", ("--plan",), "check a config, its data and its model; nothing is trained"),
    "templates": ("sweeps.templates", (), "which template the base model already knows best"),
    "run": ("sweeps.run", (), "run a sweep"),
    "resume": ("sweeps.run", ("--resume",), "continue an interrupted sweep: resume DIR"),
    "submit": ("sweeps.submit.__main__", (), "run it as a job of a Ray cluster, Slurm or Kubernetes"),
    "serve": ("sweeps.serve", (), "the service: page, API and queue"),
    "mcp": ("sweeps.mcp_server", (), "the service's tools for an agent"),
    "list": ("analysis.list", (), "all sweeps of a storage path"),
    "rank": ("analysis.rank.__main__", (), "the leaderboard"),
    "show": ("analysis.show", (), "one trial: its curve, checkpoints and findings"),
    "report": ("analysis.report.__main__", (), "one self-contained page"),
    "suspects": ("analysis.suspects.__main__", (), "training samples to look at"),
    "export": ("analysis.export.__main__", (), "the best checkpoint as a Hugging Face folder"),
    "chat": ("analysis.chat", (), "talk to the best checkpoint beside the base model"),
    "suggest": ("analysis.suggest.__main__", (), "the next sweep, as a config that runs"),
    "compare": ("analysis.compare.__main__", (), "sweeps side by side"),
    "benchmark": ("analysis.benchmark.__main__", (), "any checkpoint or model on a fixed set of areas"),
    "rebuild": ("sweeps.rebuild.__main__", (), "make lost files anew from the ledger"),
    "wandb-view": ("analysis.wandb_view.__main__", (), "the sweep's workspace and report in W&B"),
}
HOME = Path(__file__).resolve().parent
COMPLETION = 'complete -W "{words}" llm-sweeps  # put it into ~/.bashrc, or: eval "$(llm-sweeps completion)"'


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("--help", "-h"):
        print(usage())
        return 0
    if name == "--version":
        print(f"llm-sweeps {version('llm-sweeps')}")
        return 0
    if name == "completion":
        print(COMPLETION.format(words=" ".join(COMMANDS)))
        return 0
    if name not in COMMANDS:
        return mistake(f"arguments: must begin with a command, got {name}; one of {', '.join(COMMANDS)}")
    if wrong := foreign_package():
        return mistake(wrong)
    module, before, _ = COMMANDS[name]
    return int(importlib.import_module(module).main([*before, *rest]))


def foreign_package() -> str | None:
    """What is wrong where Python finds another distribution's package under one of the project's names."""
    for package in ("sweeps", "analysis", "trainables"):
        spec = importlib.util.find_spec(package)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != HOME / package:
            remedy = f"uninstall what put it there, or leave its folder: this project's is {HOME / package}"
            return f"Python: must import this project's package {package}, got {found or 'none'}; {remedy}"
    return None


def mistake(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2


def usage() -> str:
    """The text of `--help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, _, text) in COMMANDS.items()]
    example = "example:\n  llm-sweeps init train.jsonl --heldout test.jsonl --to my.yaml\n  llm-sweeps plan my.yaml"
    return "\n".join(
        ["usage: llm-sweeps COMMAND …", "", *lines, "", "Each has --help. --version, completion.", "", example]
    )


if __name__ == "__main__":
    sys.exit(main())
