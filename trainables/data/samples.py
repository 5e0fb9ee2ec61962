"""Samples of a data file, checked line by line. Reading needs neither torch nor transformers.

A sample is `{"id", "prompt", "response"}` or `{"id", "messages"}`; where a line has both, `messages` is the sample.
All other keys are kept as metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.config.defect_rules import RULES
from trainables.config.sections import FieldNames
from trainables.data.defects import MAX_DEFECTS, TOO_MANY, DataErrors, Defect, excerpt, kind_of, place
from trainables.data.json_lines import Record, Value
from trainables.data.sources import read_records
from trainables.errors import UserError

__all__ = [
    "RULES",
    "DataErrors",
    "Defect",
    "Sample",
    "check_record",
    "context_group",
    "read_samples",
    "scan_samples",
    "split_prompt",
]

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
    """

    id: str
    messages: list[dict[str, Any]]
    meta: dict[str, Any]
    line: int
    file: str = ""

    @property
    def where(self) -> str:
        """`FILE line N`, or `FILE row N` where the data has no lines."""
        return place(self.file, self.line)

    @property
    def prompt(self) -> str:
        """Texts of all messages before the last, parted by blank lines."""
        return "\n\n".join(message["content"] for message in self.messages[:-1])

    @property
    def response(self) -> str:
        """Text of the last message."""
        return self.messages[-1]["content"]


def read_samples(path: str, fields: FieldNames, split: str = "train") -> list[Sample]:
    """All samples of a file or hub data set, in order.

    Args:
        path: A `.jsonl`, `.jsonl.gz` or `.parquet` file, or a Hugging Face data-set id.
        fields: Names of the keys.
        split: Split of a hub data set; not read for files.

    Raises:
        DataErrors: Lines are broken, incomplete, of wrong types, empty, or repeat an id.
        UserError: The file is missing, unreadable, of another format, or holds no line.
    """
    samples: list[Sample] = []
    defects: list[Defect] = []
    for found in scan_samples(path, fields, split):
        if isinstance(found, Sample):
            samples.append(found)
            continue
        defects.append(found)
        if len(defects) == MAX_DEFECTS:
            defects.append(Defect(path, found.line, TOO_MANY, "more; reading stopped here"))
            break
    if defects:
        raise DataErrors(defects)
    if not samples:
        raise UserError(path, "must hold samples", "an empty file", "name a file with a sample on each line")
    return samples


def scan_samples(path: str, fields: FieldNames, split: str = "train") -> Iterator[Sample | Defect]:
    """The samples and defects of a file or hub data set, one by one; a line can have several defects.

    Raises:
        UserError: The file is missing, unreadable, or of another format.
    """
    line_of_id: dict[str, int] = {}
    for record in read_records(path, fields, split):
        if isinstance(record, Defect):
            yield record
            continue
        sample = check_record(path, record, fields)
        if isinstance(sample, list):
            yield from sample
            continue
        first = line_of_id.setdefault(sample.id, sample.line)
        if first != sample.line:
            yield Defect(path, sample.line, "repeated_id", f"{excerpt(sample.id)}, the id of line {first}")
        else:
            yield sample


def check_record(path: str, record: Record, fields: FieldNames) -> Sample | list[Defect]:
    """The sample that a record holds, or all that keeps it from being one; ids are not compared with other lines."""
    line, value = record
    defects = [Defect(path, line, rule, got) for rule, got in _faults(value, fields)]
    return defects or _sample(value, fields, path, line)


def split_prompt(prompt: str) -> tuple[str, str]:
    """A prompt's context and the question about it; the context is empty where the prompt is a question alone.

    The context is the text before the last "Question:"; without one, before the last blank line.
    """
    before, mark, after = prompt.rpartition("Question:")
    if not mark:
        breaks = list(PARAGRAPH_BREAK.finditer(prompt.rstrip()))
        before, after = (prompt[: breaks[-1].start()], prompt[breaks[-1].end() :]) if breaks else ("", prompt)
    return (before, after) if before.strip() else ("", prompt)


def context_group(prompt: str) -> str:
    """Name of the context that a prompt asks about, equal for prompts that share it.

    The context is that of `split_prompt`, or the whole prompt where that is empty. White space does not count. Prompts
    that share only a stock instruction before their blank line would all be one group: give such data a `group` key.
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
    """(rule, what was found) for everything that keeps a record from being a sample."""
    yield from _text_faults(value, fields.id, "empty_id", fields.id)
    if value.get(fields.messages) is not None:
        yield from _message_faults(value[fields.messages], fields.messages)
    else:
        yield from _text_faults(value, fields.prompt, "empty_prompt", fields.prompt)
        yield from _text_faults(value, fields.response, "empty_response", fields.response)
    if isinstance(value.get("group"), str):
        yield from _text_faults(value, "group", "empty_group", "group")


def _text_faults(value: Value, key: str, if_empty: str | None, name: str) -> Faults:
    if key not in value:
        yield "missing_field", f"no {name}"
    elif not isinstance(text := value[key], str):
        yield "wrong_type", f"{name} that is {kind_of(text)}"
    elif if_empty and not text.strip():
        yield if_empty, excerpt(text)
    elif not _is_unicode(text):
        yield "invalid_text", excerpt(text)


def _is_unicode(text: str) -> bool:
    """False for unpaired surrogates, which JSON can hold as escapes and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


EMPTY_RULES = {"user": "empty_prompt", "assistant": "empty_response"}


def _message_faults(messages: Any, name: str) -> Faults:
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield "wrong_type", f"{name} that is {kind_of(messages)}" + " of other things" * isinstance(messages, list)
        return
    for i, message in enumerate(messages):
        role = message.get("role")
        yield from _text_faults(message, "role", "wrong_type", f"{name}[{i}].role")
        empty = EMPTY_RULES.get(role) if isinstance(role, str) else None
        yield from _text_faults(message, "content", empty, f"{name}[{i}].content")
    roles = [message.get("role") for message in messages]
    if len(roles) < 2 or roles[0] == "assistant" or roles[-1] != "assistant":
        yield "turn_order", f"roles {excerpt(', '.join(str(role) for role in roles))}"


@dataclass(frozen=True)
class Item:
    """One held-out item.

    Attributes:
        id: Its id in the area's file.
        prompt: What the model was asked.
        response: The reference answer.
        meta: The item's other keys.
    """

    id: str
    prompt: str
    response: str
    meta: dict[str, Any] = field(default_factory=dict)
