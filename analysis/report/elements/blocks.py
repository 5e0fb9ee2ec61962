"""PURE. What a section of the report is made of: text, tables, charts and cards, as data. The template draws them.

Everything in them is plain text: the template escapes it, whatever the user's data hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import plotly.graph_objects as go


@dataclass(frozen=True)
class Text:
    """A paragraph: `lead` for the sentence that a section is read for, `note` for what explains it."""

    text: str
    kind: Literal["lead", "plain", "note"] = "plain"
    form: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bar:
    """An interval drawn in a cell, in parts of the column's width, 0 to 1.

    Attributes:
        low: Left end.
        value: The mark.
        high: Right end.
        zero: Where nothing is gained or lost.
    """

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and a bar beneath it where there is an interval to see."""

    text: str
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        caption: What it shows; read out to those who can't see it.
        header: Names of the columns.
        rows: Cells, or plain texts, as many as there are columns.
        words: How many columns from the left hold words (left-aligned); the others hold figures.
        folded: The line that opens it; None for a table that is open.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    words: int = 1
    folded: str | None = None
    form: ClassVar[str] = "table"

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows with every plain text as a cell."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """A Plotly figure.

    Attributes:
        name: Unique on the page: letters, digits, `-`.
        label: What it shows, in a sentence, for those who can't see it.
        figure: Its data and layout; colours of text and grid are the page's.
        height: In pixels.
        table: The same as figures in a table, folded.
    """

    name: str
    label: str
    figure: go.Figure
    height: int = 380
    table: Table | None = None
    form: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Points:
    """A list; each point has a term in front (may be empty), and a mark of its severity."""

    points: Sequence[tuple[str, str]]
    form: ClassVar[str] = "points"


@dataclass(frozen=True)
class Card:
    """One thing with its texts: a held-out item, say.

    Attributes:
        title: What it is.
        figures: Its numbers, in words.
        parts: (label, text); line breaks of the text are kept.
    """

    title: str
    figures: str
    parts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Cards:
    """Several cards beneath a line that opens them."""

    summary: str
    cards: Sequence[Card]
    opened: bool = False
    form: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Grid:
    """Charts beside each other where there is room."""

    charts: Sequence[Chart]
    form: ClassVar[str] = "grid"


Block = Text | Table | Chart | Points | Cards | Grid


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        name: Its anchor: letters, digits, `-`.
        title: Its heading.
        blocks: What it shows, in order.
    """

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
