"""Samples of data files: parse and check one line, split a prompt into context and question. Imports no framework.

A record is `{"id", "prompt", "response"}` or `{"id", "messages"}`; where it has both, `messages` is the sample.
All other keys are kept as metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainables.config.sections import FieldNames
from trainables.data.defects import Defect, excerpt, json_type, location
from trainables.data.json_lines import RawLine, Record, Value, parse_line

CONTEXT_HASH_CHARACTERS = 16
PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Sample:
    """One conversation that ends with the assistant's turn.

    Attributes:
        id: Unique in its file.
        messages: `{"role", "content"}` each, other keys kept for the chat template; the last is the assistant's.
        meta: All other keys of the line.
        line: Line or row of the file, counted from 1.
        file: The file as the config names it.
        tools: Definitions of the tools that the conversation may call, as the chat template takes them.
        text: Of a row of plain text, which has no messages; every token of it is learnt.
    """

    id: str
    messages: list[dict[str, Any]]
    meta: dict[str, Any]
    line: int
    file: str = ""
    tools: list[dict[str, Any]] | None = None
    text: str | None = None

    @property
    def where(self) -> str:
        """`FILE line N`, or `FILE row N` where the data has no lines."""
        return location(self.file, self.line)

    @property
    def prompt(self) -> str:
        """Texts of all messages before the last, separated by blank lines."""
        return "\n\n".join(message["content"] for message in self.messages[:-1])

    @property
    def response(self) -> str:
        """Text of the last message, or the plain text."""
        return self.messages[-1]["content"] if self.text is None else self.text


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


def parse_sample(path: str, raw: RawLine | Record | Defect, fields: FieldNames) -> Sample | list[Defect]:
    """Returns the sample of a line from `read_raw`, or all its defects; ids are not compared with other lines."""
    record = parse_line(*raw) if isinstance(raw, RawLine) else raw
    if isinstance(record, Defect):
        return [record]
    line, value = record
    defects = [Defect(line, rule, got) for rule, got in _faults(value, fields)]
    return defects or _sample(value, fields, path, line)


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


def _sample(value: Value, fields: FieldNames, path: str, line: int) -> Sample:
    messages = value.get(fields.messages)
    used = {fields.id, fields.messages}
    if messages is None:
        used |= {fields.prompt, fields.response}
        messages = [
            {"role": "user", "content": value[fields.prompt]},
            {"role": "assistant", "content": value[fields.response]},
        ]
    meta = {key: kept for key, kept in value.items() if key not in used}
    return Sample(value[fields.id], messages, meta, line, path)


Faults = Iterable[tuple[str, str]]


def _faults(value: Value, fields: FieldNames) -> Faults:
    """Yields (rule, what was found) for each reason why a record is no sample."""
    yield from _text_faults(value, fields.id, "empty_id", fields.id)
    if value.get(fields.messages) is not None:
        yield from _message_faults(value[fields.messages], fields.messages)
    else:
        yield from _text_faults(value, fields.prompt, "empty_prompt", fields.prompt)
        yield from _text_faults(value, fields.response, "empty_response", fields.response)
    # Other types of `group` are fine: they are written as JSON. Only a text can be empty or broken.
    if isinstance(value.get("group"), str):
        yield from _text_faults(value, "group", "empty_group", "group")


def _text_faults(value: Value, key: str, if_empty: str | None, name: str) -> Faults:
    if key not in value:
        yield "missing_field", f"no {name}"
    elif not isinstance(text := value[key], str):
        yield "wrong_type", f"{name} that is {json_type(text)}"
    elif if_empty and not text.strip():
        yield if_empty, excerpt(text)
    elif not _is_unicode(text):
        yield "invalid_text", excerpt(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()  # fails on unpaired surrogates, which JSON can hold as escapes and UTF-8 cannot
    except UnicodeEncodeError:
        return False
    return True


EMPTY_RULES = {"user": "empty_prompt", "assistant": "empty_response"}


def _message_faults(messages: Any, name: str) -> Faults:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield "wrong_type", f"{name} that is {json_type(messages)}" + " of other things" * isinstance(messages, list)
        return
    for i, message in enumerate(messages):
        role = message.get("role")
        yield from _text_faults(message, "role", "wrong_type", f"{name}[{i}].role")
        empty = EMPTY_RULES.get(role) if isinstance(role, str) else None
        yield from _text_faults(message, "content", empty, f"{name}[{i}].content")
    roles = [message.get("role") for message in messages]
    if len(roles) < 2 or roles[0] == "assistant" or roles[-1] != "assistant":
        yield "turn_order", f"roles {excerpt(', '.join(str(role) for role in roles))}"
