"""Samples of data files: parse and check one line, split a prompt into context and question. Imports no framework.

`trainables.data.forms` knows the forms of a line. Keys that no part of a sample came from are kept as metadata.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.config.data_sections import FieldNames
from trainables.data.defects import Defect, excerpt, json_type, location, place
from trainables.data.forms.content import text_faults
from trainables.data.forms.form_keys import DEFAULTS
from trainables.data.forms.known_keys import READ_METADATA, TEMPLATE_KEYS, Fault
from trainables.data.forms.rows import Row, read_row
from trainables.data.json_lines import RawLine, Record, Value, parse_line

CONTEXT_HASH_CHARACTERS = 16
EMPTY: tuple[Any, ...] = (None, "", [], {})  # and the NaN of tables, which have every column in every row
MESSAGE_KEYS = "messages[]."
PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation that ends with the assistant's turn, or a plain text.

    Attributes:
        id: Unique in its file.
        messages: `{"role", "content"}` each, other keys kept for the chat template; the last is the assistant's. A
            turn of the assistant that is not learnt has `"weight": 0`. Arguments of tool calls are objects.
        meta: All other keys of the line.
        line: Line or row of the file, counted from 1.
        file: The file as the config names it.
        tools: Definitions of the tools that the conversation may call, as the chat template takes them.
        text: Of a row of plain text, which has no messages; every token of it is learnt.
        form: The form that the line had, as in `data.format`.
    """

    id: str
    messages: list[dict[str, Any]]
    meta: dict[str, Any]
    line: int
    file: str = ""
    tools: list[dict[str, Any]] | None = None
    text: str | None = None
    form: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """`FILE line N`, or `FILE row N` where the data has no lines."""
        return location(self.file, self.line)

    @property
    def answer_index(self) -> int:
        """Place in `messages` of the last turn that is learnt."""
        return max(i for i, turn in enumerate(self.messages) if turn["role"] == "assistant" and turn.get("weight") != 0)

    @property
    def prompt(self) -> str:
        """Texts of all messages before the last one that is learnt, separated by blank lines."""
        if self.text is not None:
            return ""
        return "\n\n".join(map(message_text, self.messages[: self.answer_index]))

    @property
    def response(self) -> str:
        """Text of the last message that is learnt, or the plain text."""
        return message_text(self.messages[self.answer_index]) if self.text is None else self.text

    @property
    def unwritten(self) -> str:
        """What tells samples apart beside `prompt` and `response`: tools, and reasoning that is in no content."""
        reasoning = [str(turn["reasoning_content"]) for turn in self.messages if "reasoning_content" in turn]
        return "\0".join([json.dumps(self.tools, sort_keys=True, default=str)] * bool(self.tools) + reasoning)


def message_text(message: dict[str, Any]) -> str:
    """A message's content, and each of its tool calls as JSON on a line below it."""
    if not message.get("tool_calls"):
        return str(message["content"])
    calls = [
        json.dumps(call["function"], ensure_ascii=False, default=str)
        for call in message["tool_calls"]
        if isinstance(call, dict) and "function" in call
    ]
    return "\n".join(part for part in (message["content"], *calls) if part)


@dataclass(frozen=True)
class Item:
    """A sample as scorers and reports see it.

    Attributes:
        id: Its id in the file.
        prompt: The text that the model was given.
        response: The reference answer.
        meta: The sample's other keys.
    """

    id: str
    prompt: str
    response: str
    meta: dict[str, Any] = field(default_factory=dict)


def parse_sample(
    path: str, raw: RawLine | Record | Defect, fields: FieldNames, form: str = "auto"
) -> Sample | list[Defect]:
    """Returns the sample of a line from `read_raw`, or all its defects; ids are not compared with other lines.

    Args:
        path: The file as the config names it.
        raw: The line.
        fields: Names of the keys.
        form: As `data.format`.
    """
    record = parse_line(*raw) if isinstance(raw, RawLine) else raw
    if isinstance(record, Defect):
        return [record]
    line, value = record
    row = read_row(value, fields, form)
    faults = [*_id_faults(value, fields), *row.faults, *_group_faults(value)]
    return [Defect(line, rule, got) for rule, got in faults] or _sample(value, row, fields, path, line)


def unread_keys(sample: Sample) -> Iterator[str]:
    """Yields the keys of a sample's row and messages that nothing reads; those of messages with brackets."""
    yield from (
        key for key, value in sample.meta.items() if value not in EMPTY and value == value and key not in READ_METADATA
    )
    keys = {key for message in sample.messages for key, value in message.items() if value not in EMPTY}
    yield from (f"{MESSAGE_KEYS}{key}" for key in keys.difference(TEMPLATE_KEYS))


def split_prompt(prompt: str) -> tuple[str, str]:
    """Splits a prompt into its context and the question about it, both stripped.

    The question follows the last "Question:", or else the last blank line. A prompt with neither is a question without
    context.
    """
    before, mark, after = prompt.rpartition("Question:")
    if mark:
        return before.strip(), after.strip()
    text = prompt.strip()
    breaks = list(PARAGRAPH_BREAK.finditer(text))
    return (text[: breaks[-1].start()], text[breaks[-1].end() :]) if breaks else ("", text)


def context_group(prompt: str) -> str:
    """Name of the context that a prompt asks about, equal for prompts that share it up to white space.

    The context is that of `split_prompt`, or the whole prompt where that is empty. Prompts that share only a stock
    instruction before their blank line would all be one group: give such data a `group` key.
    """
    context = " ".join((split_prompt(prompt)[0] or prompt).split())
    return f"context-{hashlib.sha256(context.encode()).hexdigest()[:CONTEXT_HASH_CHARACTERS]}"


def _sample(value: Value, row: Row, fields: FieldNames, path: str, line: int) -> Sample:
    given = value.get(fields.id)
    # Named by its line, which stays its line in every later run.
    name = f"{place(path)}-{line}" if given is None else str(given)
    meta = {key: kept for key, kept in value.items() if key not in row.used and key != fields.id}
    return Sample(name, row.messages, meta, line, path, row.tools, row.text, row.form)


def _id_faults(value: Value, fields: FieldNames) -> Iterable[Fault]:
    given = value.get(fields.id)
    if isinstance(given, str):
        yield from text_faults(given) if given.strip() else [("empty_id", excerpt(given))]
    elif given is None and fields.id != DEFAULTS.id:  # a name that the user gave must be there
        yield "missing_field", f"no {fields.id}"
    elif given is not None and (isinstance(given, bool) or not isinstance(given, int | float) or given != given):
        yield "wrong_type", f"{fields.id} that is {json_type(given)}"


def _group_faults(value: Value) -> Iterable[Fault]:
    # Other types of `group` are fine: they are written as JSON. Only a text can be empty or broken.
    if isinstance(group := value.get("group"), str):
        yield from text_faults(group) if group.strip() else [("empty_group", excerpt(group))]
