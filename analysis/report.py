"""`python -m analysis.report DIR`: the sweep on one self-contained HTML page, which opens without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from analysis.command import DONE, Parser, run
from analysis.figures import curves_figure, objective_figure, plotly_script
from analysis.rank import leaderboard
from analysis.records import Sweep, read_sweep
from trainables.files import write_whole

EXAMPLE = "example: python -m analysis.report outputs/demo"
REPORT_FILE = "report.html"


def write_report(folder: str | Path) -> Path:
    """Writes `report.html` into a sweep's folder; a sweep that is under way gives what there is.

    Args:
        folder: `<storage_path>/<name>` of a sweep.

    Returns:
        The page.

    Raises:
        UserError: The folder is missing or isn't a sweep's.
    """
    sweep, board = read_sweep(folder), leaderboard(folder)
    # Everything that comes from the user's files is escaped by the template; figures escape their own labels.
    pages = Environment(loader=PackageLoader("analysis"), autoescape=select_autoescape(), undefined=StrictUndefined)
    text = pages.get_template("report.html").render(
        name=sweep.name,
        objective=_statement(sweep),
        board=board,
        areas=sorted(board["baseline"]["areas"]) if board["baseline"] else [],
        params=sorted({name for row in board["rows"] for name in row["params"]}),
        findings=[(trial.trial_id, finding) for trial in sweep.trials for finding in trial.findings],
        plotly=plotly_script(),
        curves=curves_figure(sweep),
        objectives=objective_figure(board),
    )
    page = Path(folder) / REPORT_FILE
    write_whole(page, text)
    return page


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser("python -m analysis.report", "Writes a sweep's report.html.", EXAMPLE)
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder, <storage_path>/<name>")
    given = parser.parse_args(arguments)

    def command() -> int:
        print(f"report: {write_report(given.folder)}")
        return DONE

    return run(command)


def _statement(sweep: Sweep) -> str:
    objective: Any = sweep.config.get("objective") or ""
    return str(objective.get("statement", "")) if isinstance(objective, dict) else str(objective)


if __name__ == "__main__":
    sys.exit(main())
