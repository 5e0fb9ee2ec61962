"""What can be wrong with a line of a data file, and how it is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from trainables.errors import UserError, UserErrors

MAX_LINE_BYTES = 16 * 2**20
MAX_DEFECTS = 100_000
SHOWN_PER_RULE = 20
EXCERPT_CHARACTERS = 60
JSON_LINES = (".jsonl", ".jsonl.gz")

# Rule: (what must hold, what the user can do).
RULES = {
    "broken_json": ("must be one JSON object", "correct or remove the line"),
    "not_utf8": ("must be UTF-8 text", "save the file as UTF-8"),
    "byte_order_mark": ("must not begin with a byte-order mark", "save the file as UTF-8 without one"),
    "line_too_long": (f"must be at most {MAX_LINE_BYTES // 2**20} MiB long", "split or remove the line"),
    "wrong_type": ("must be an object of texts", "correct or remove the line"),
    "missing_field": ("must hold an id, and prompt and response or messages", "add it, or map its name in data.fields"),
    "invalid_text": ("text must be valid Unicode", "remove the unpaired surrogates"),
    "empty_id": ("the id must not be empty", "give the sample an id"),
    "empty_prompt": ("the prompt must not be empty", "complete or remove the sample"),
    "empty_response": ("the response must not be empty", "complete or remove the sample"),
    "empty_group": ("a group must not be empty", "name the group, or leave the key out"),
    "turn_order": ("messages must begin with a prompt and end with the assistant", "complete or remove the sample"),
    "repeated_id": ("ids must be unique in a file", "remove the copy or give it another id"),
    "too_many_defects": (f"a file must have fewer than {MAX_DEFECTS:,} faults", "check that it is the right file"),
}


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with one line.

    Attributes:
        file: The file as the config names it.
        line: Line or row, counted from 1.
        rule: Name of the broken rule, a key of `RULES`.
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
    must, remedy = RULES[rule]
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
