"""Defects of single lines of a data file, and the texts that findings quote."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN_PER_RULE = 20
EXCERPT_CHARACTERS = 60
JSON_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Defect:
    """A broken rule in one line.

    Attributes:
        line: Line or row, counted from 1.
        rule: Name of the rule, a key of `RULES`.
        got: What was found, short.
    """

    line: int
    rule: str
    got: str


def location(file: str, line: int) -> str:
    """`FILE line N`, or `FILE row N` where the data has no lines (JSON arrays, CSV, Parquet, hub)."""
    return f"{file} {place(file)} {line}"


def place(file: str) -> str:
    """What the samples of a file stand on: "line", or "row" where the data has no lines."""
    return "line" if file.lower().endswith(JSON_LINES) else "row"


def excerpt(text: str) -> str:
    """The start of a text, quoted and printable."""
    return repr(text) if len(text) <= EXCERPT_CHARACTERS else repr(text[:EXCERPT_CHARACTERS]) + "…"


def reason(error: Exception) -> str:
    """An error's message, without the number and path that the operating system's errors repeat."""
    return getattr(error, "strerror", None) or str(error)


def json_type(value: object) -> str:
    """The type of a JSON value, in words."""
    if value is None:
        return "null"
    for kinds, words in (
        (bool, "true or false"),  # before numbers: Python's bool is an int
        (str, "text"),
        (int | float, "a number"),
        (list, "a list"),
        (dict, "an object"),
    ):
        if isinstance(value, kinds):
            return words
    return f"of type {type(value).__name__}"
