"""Renders a sweep's page: every section's blocks through one template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from analysis.output.leaderboard import Leaderboard
from analysis.report.charts import checkpoints, cost, curves, space, study
from analysis.report.elements.blocks import Section
from analysis.report.elements.material import Material, read_material
from analysis.report.sections import areas, data, items, leaderboard, outcome, provenance, samples
from trainables.project import PROJECT_ROOT
from trainables.storage.atomic import write_whole
from trainables.storage.layout import REPORT_FILE

# In the order of the page.
SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    outcome.outcome,
    leaderboard.section,
    items.section,
    checkpoints.section,
    curves.section,
    areas.section,
    space.section,
    study.section,
    data.section,
    samples.section,
    outcome.next_steps,
    cost.section,
    provenance.section,
)


def write_report(folder: str | Path, board: Leaderboard | None = None, to: str | Path | None = None) -> Path:
    """Writes a sweep's page and returns its path; a running sweep gives what there is.

    Args:
        folder: The sweep's folder.
        board: Its leaderboard; None to rank it now.
        to: The file to write; None for `report.html` in the sweep's folder.

    Raises:
        UserError: The folder is missing or isn't a sweep's, or a file in it can't be read.
        OSError: The page can't be written.
    """
    page = Path(to) if to else Path(folder) / REPORT_FILE
    write_whole(page, render(read_material(folder, board)))
    return page


def render(material: Material) -> str:
    """Renders the page's HTML."""
    # Texts of the user's files are plain text in the blocks: the template escapes all of it.
    pages = Environment(
        loader=PackageLoader("analysis"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters["figure_json"] = figure_json
    return pages.get_template("report/page.html").render(
        name=material.sweep.name,
        statement=material.sweep.statement,
        about=outcome.about(material),
        sections=[found for section in SECTIONS if (found := section(material)) is not None],
        plotly=Markup(get_plotlyjs()),
        style=Markup(_asset("page.css")),
        script=Markup(_asset("page.js")),
    )


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that is safe inside a script element."""
    text = json.dumps(json.loads(figure.to_json()), separators=(",", ":"), allow_nan=False)
    for character in "<>&":  # so that a text can't close the element with </script> or open <!--
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (PROJECT_ROOT / "analysis" / "templates" / "report" / name).read_text(encoding="utf-8")
