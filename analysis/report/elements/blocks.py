"""PURE. Building blocks of a report's section: text, tables, charts and cards, as data that the template draws.

Their texts are plain: the template escapes them, so text of the user's data can't become markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import plotly.graph_objects as go


@dataclass(frozen=True)
class Text:
    """A paragraph: `lead` for a section's main sentence, `note` for an explanation."""

    text: str
    kind: Literal["lead", "plain", "note"] = "plain"
    form: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bar:
    """An interval with its value and zero, in parts of the column's width, 0 to 1."""

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, with a bar beneath it where there is an interval."""

    text: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row."""

    caption: str  # its content in words, also for screen readers
    header: Sequence[str]  # names of the columns
    rows: Sequence[Sequence[Cell | str]]  # cells or plain texts, one for each column
    words: int = 1  # number of left-aligned columns with words, from the left; the others hold figures
    folded: str | None = None  # the line that unfolds it; None for an open table
    form: ClassVar[str] = "table"

    @property
    def cells(self) -> list[list[Cell]]:
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """A Plotly figure."""

    name: str  # unique on the page: letters, digits, `-`
    label: str  # its content in a sentence, for screen readers
    figure: go.Figure  # data and layout; the page sets the colors of text and grid
    height: int = 380  # pixels
    table: Table | None = None  # the same figures as a folded table
    form: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Points:
    """A list of (term, text); a term may be empty."""

    points: Sequence[tuple[str, str]]
    form: ClassVar[str] = "points"


@dataclass(frozen=True)
class Card:
    """An item with its figures in words and its texts, as (label, text); line breaks of a text are kept."""

    title: str
    figures: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cards:
    """Cards beneath a line that unfolds them."""

    summary: str
    cards: Sequence[Card]
    opened: bool = False
    form: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Grid:
    """Charts side by side, as the width allows."""

    charts: Sequence[Chart]
    form: ClassVar[str] = "grid"


Block = Text | Table | Chart | Points | Cards | Grid


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `name` is its anchor: letters, digits, `-`."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
