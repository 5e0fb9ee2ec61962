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
    sortable: bool = False  # a click on a column's name sorts by it
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
    folded: str | None = None  # the line that unfolds it; None for an open list
    alarm: bool = False  # warnings
    form: ClassVar[str] = "points"


@dataclass(frozen=True)
class Tile:
    """A figure that the reader came for, with what it is and a line or two on it."""

    label: str
    value: str
    notes: Sequence[str] = ()
    alarm: bool = False


@dataclass(frozen=True)
class Tiles:
    """Tiles side by side."""

    tiles: Sequence[Tile]
    form: ClassVar[str] = "tiles"


@dataclass(frozen=True)
class Copies:
    """Texts to copy, as (what it is, text), each with a button."""

    texts: Sequence[tuple[str, str]]
    form: ClassVar[str] = "copies"


@dataclass(frozen=True)
class Masked:
    """A rendered training sample: its parts as (text, whether it carries loss)."""

    caption: str
    parts: Sequence[tuple[str, bool]]
    form: ClassVar[str] = "masked"


@dataclass(frozen=True)
class Example:
    """A held-out item: the base model's answer beside the best one's."""

    area: str
    id: str
    prompt: str
    expected: str
    base: str
    best: str
    change: str  # one of the outcomes that the reader filters by
    losses: str
    base_cut: bool = False  # whether the answer had not ended after `max_new_tokens`
    best_cut: bool = False


@dataclass(frozen=True)
class Examples:
    """Held-out items as a table that can be filtered by area and outcome."""

    caption: str
    rows: Sequence[Example]
    form: ClassVar[str] = "examples"

    @property
    def areas(self) -> list[str]:
        return sorted({row.area for row in self.rows})

    @property
    def changes(self) -> dict[str, int]:
        return {name: sum(row.change == name for row in self.rows) for name in sorted({r.change for r in self.rows})}


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


Block = Text | Table | Chart | Points | Cards | Grid | Tiles | Copies | Masked | Examples


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading; `name` is its anchor: letters, digits, `-`."""

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
