"""`python -m analysis.wandb_view DIR`: makes the sweep's workspace and report in W&B.

`wandb_view.json` in the sweep's folder holds the ids of both: run again, the command replaces them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from analysis.cli import DONE, Parser, run
from analysis.rank.leaderboard import leaderboard
from analysis.records.json_files import read_json
from analysis.records.sweep import read_sweep
from trainables.config.sections import WandbConfig
from trainables.errors import UserError
from trainables.storage.atomic import write_whole
from trainables.storage.layout import WANDB_VIEW_FILE
from trainables.tracking import wandb_client

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

END_SECONDS = 5.0

EXAMPLE = """example:
  python -m analysis.wandb_view outputs/demo

Needs the `wandb` extra (pip install 'llm-sweeps[wandb]'), an API key and the network. Runs that were written offline
are seen once they are uploaded: wandb sync outputs/demo/wandb/offline-*

exit codes: 0 done, 2 wrong arguments, offline, or W&B refused"""


def make_views(folder: str | Path) -> tuple[str, str]:
    """Makes or replaces the workspace and the report of a sweep's folder; returns their addresses.

    Raises:
        UserError: The folder is no sweep's; W&B is switched off, has no key, can't be reached or refuses.
    """
    sweep, board = read_sweep(folder), leaderboard(folder)
    settings = WandbConfig.model_validate(sweep.config.get("wandb") or {})
    if settings.mode == "disabled":
        remedy = "there is nothing on W&B: run `python -m sweeps.rebuild DIR --wandb OUT`, and upload what it writes"
        raise UserError("wandb.mode", "must not be disabled for this sweep", "disabled", remedy)
    _refuse_offline()
    wandb_panels = panels_module()
    entity = settings.entity or _default_entity()
    known: dict[str, Any] = read_json(sweep.folder / WANDB_VIEW_FILE) or {}
    workspace = wandb_panels.workspace(sweep, board, entity, settings.project)
    report = wandb_panels.report(sweep, board, entity, settings.project)
    place = {"entity": entity, "project": settings.project}
    if any(known.get(name) != value for name, value in place.items()):
        known = {}  # the ids belong to another project
    # `wandb-workspaces` has no public way to replace a workspace whose object is not at hand.
    workspace._internal_name, workspace._internal_id = known.get("workspace", ("", ""))
    report.id = known.get("report", "")
    _save(workspace)
    # Written after each of the two, so that a failure in between leaves no workspace that the next call would double.
    made = {**known, **place, "workspace": [workspace._internal_name, workspace._internal_id]}
    write_whole(sweep.folder / WANDB_VIEW_FILE, json.dumps(made) + "\n")
    _save(report)
    write_whole(sweep.folder / WANDB_VIEW_FILE, json.dumps({**made, "report": report.id}) + "\n")
    return workspace.url, report.url


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("python -m analysis.wandb_view", "Makes a sweep's workspace and report in W&B.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder, <storage_path>/<name>")
    given = parser.parse_args(arguments)

    def command() -> int:
        try:
            workspace, report = make_views(given.folder)
        finally:
            # Else the end of the process waits for W&B's, without a bound.
            wandb_client.tear_down(END_SECONDS)
        print(f"workspace: {workspace}\nreport: {report}")
        return DONE

    return run(command)


def _default_entity() -> str:
    import wandb

    try:
        return str(wandb.Api().default_entity)
    except Exception as error:
        raise _unreachable(error) from error


def panels_module() -> ModuleType:
    """Imports `analysis.wandb_view.panels`.

    Raises:
        UserError: The optional library that it needs is not installed.
    """
    try:
        return importlib.import_module("analysis.wandb_view.panels")
    except ModuleNotFoundError as error:
        remedy = "pip install 'llm-sweeps[wandb]'"
        raise UserError("wandb-workspaces", "must be installed", f"no module {error.name}", remedy) from error


def _refuse_offline() -> None:
    wandb_client.set_up()
    mode = wandb_client.resolve_mode("auto")
    if mode != "online":
        remedy = "run `wandb login` (and `wandb online`), or set WANDB_API_KEY"
        raise UserError("wandb", "must be online, with an API key", f"{mode} mode", remedy)


def _save(view: Workspace | Report) -> None:
    try:
        view.save()
    except Exception as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> UserError:
    got = " ".join(f"{type(error).__name__}: {error}".split())
    return UserError("wandb", "must answer and accept the views", got, "check the network, the key and wandb.entity")


if __name__ == "__main__":
    sys.exit(main())
