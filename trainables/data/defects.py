"""What can be wrong with a line of a data file, and how it is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from trainables.config.defect_rules import RULES
from trainables.errors import UserError, UserErrors

MAX_DEFECTS = 100_000
TOO_MANY = "too_many_defects"
SHOWN_PER_RULE = 20
EXCERPT_CHARACTERS = 60
JSON_LINES = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with one line.

    Attributes:
        file: The file as the config names it.
        line: Line or row, counted from 1.
        rule: Name of the broken rule, a key of `RULES`, or `TOO_MANY`.
        got: What was found, short.
    """

    file: str
    line: int
    rule: str
    got: str

    @property
    def where(self) -> str:
        """`FILE line N`, or `FILE row N` where the data has no lines."""
        return place(self.file, self.line)


class DataErrors(UserErrors):
    """All defects of a data file; at most `SHOWN_PER_RULE` of a rule are shown, with the count of all.

    Args:
        defects: At least one, in the file's order; kept whole as `defects`, counted by rule as `counts`.
    """

    def __init__(self, defects: list[Defect]) -> None:
        self.defects = defects
        by_rule: dict[str, list[Defect]] = defaultdict(list)
        for defect in defects:
            by_rule[defect.rule].append(defect)
        self.counts = {rule: len(found) for rule, found in by_rule.items()}
        super().__init__(list(chain.from_iterable(_shown(rule, found) for rule, found in by_rule.items())))

    def __reduce__(self) -> tuple[type[DataErrors], tuple[list[Defect]]]:
        return type(self), (self.defects,)


def _shown(rule: str, found: list[Defect]) -> Iterator[UserError]:
    if rule == TOO_MANY:
        must, remedy = f"a file must have fewer than {MAX_DEFECTS:,} faults", "check that it is the right file"
    else:
        must, remedy = RULES[rule].must, RULES[rule].remedy
    for defect in found[:SHOWN_PER_RULE]:
        yield UserError(defect.where, must, defect.got, remedy)
    if len(found) > SHOWN_PER_RULE:
        yield UserError(found[0].file, must, f"{len(found)} such lines, {SHOWN_PER_RULE} of them above", remedy)


def place(file: str, line: int) -> str:
    """`FILE line N`, or `FILE row N` where the data has no lines (Parquet, hub)."""
    return f"{file} {'line' if file.lower().endswith(JSON_LINES) else 'row'} {line}"


def excerpt(text: str) -> str:
    """The start of a text, quoted and printable."""
    return repr(text) if len(text) <= EXCERPT_CHARACTERS else repr(text[:EXCERPT_CHARACTERS]) + "…"


def reason(error: Exception) -> str:
    """An error's message, without the number and path that the operating system's errors repeat."""
    return getattr(error, "strerror", None) or str(error)


def kind_of(value: object) -> str:
    """A JSON value's type, in words."""
    if value is None:
        return "null"
    for kinds, words in (
        (bool, "true or false"),
        (str, "text"),
        (int | float, "a number"),
        (list, "a list"),
        (dict, "an object"),
    ):
        if isinstance(value, kinds):
            return words
    return f"of type {type(value).__name__}"
