"""Read a row of any form into messages, tools or plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainables.config.data_sections import FieldNames
from trainables.data.defects import excerpt, json_type
from trainables.data.forms.content import text_faults
from trainables.data.forms.form_keys import DEFAULTS, Form, Value, forms, has_form, is_mapped, is_turn, mapping, no_form
from trainables.data.forms.known_keys import (
    INPUT_KEYS,
    SYSTEM_KEYS,
    TOOL_KEYS,
    UNREADABLE,
    Fault,
    Messages,
)
from trainables.data.forms.messages import read_messages
from trainables.data.forms.tool_calls import Definition, read_json, tool_definitions


@dataclass
class Row:
    """A row's texts.

    Attributes:
        form: Name of its form.
        messages: Its turns; empty for a plain text.
        text: The plain text.
        tools: Definitions of tools.
        used: Keys that these came from.
        faults: Why it is no sample.
    """

    form: str
    messages: Messages = field(default_factory=list)
    text: str | None = None
    tools: list[Definition] | None = None
    used: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)


def read_row(value: Value, fields: FieldNames, wanted: str) -> Row:
    """Reads a row.

    Args:
        value: The row.
        fields: Names of the keys.
        wanted: The form that the row must have, or "auto".
    """
    if fields.metadata:
        value = {key: part for key, part in value.items() if key not in fields.metadata}
    found = [form for form in forms(fields) if wanted in ("auto", form.name) and has_form(value, form, wanted)]
    if not found:
        return Row("", faults=list(no_form(value, fields, wanted)))
    form = found[0]
    row = _read(value, form, fields)
    if wanted == "auto" and not is_mapped(form) and not row.faults:
        row.faults += _differing(value, row, form, found[1:], fields)
    # The unpaired preferences of TRL, LLaMA-Factory and ms-swift; tables of texts write False.
    marks = ("label", "kto_tag") if form.name in ("prompt_completion", "messages", "sharegpt") else ("kto_tag",)
    row.faults += [
        ("turn_mark", f"{key} false, which marks an answer that is not wanted")
        for key in marks
        if value.get(key) is False or value.get(key) in ("False", "false")
    ]
    row.faults += [
        ("unreadable_part", f"{key}: {why}")
        for key, why in UNREADABLE.items()
        if isinstance(value.get(key), list | dict) and value[key]
    ]
    return row


def _read(value: Value, form: Form, fields: FieldNames) -> Row:
    row = Row(form.name, used=set(form.keys))
    if form.name == "text":
        row.text = value[form.keys[0]]
        row.faults += [("empty_response", excerpt(row.text))] if not row.text.strip() else text_faults(row.text)
        return row
    if len(form.keys) == 1:
        row.messages, row.faults = read_messages(value[form.keys[0]], form.keys[0], fields.metadata)
    else:
        _read_pair(value, form, fields, row)
    _read_system(value, fields, row)
    _read_tools(value, fields, row)
    if not row.faults:
        row.faults += _turn_faults(row.messages)
    if "chosen" in value and (hint := mapping(value, fields)):
        row.faults = [(rule, f"{got} (try {hint})" if rule == "turn_order" else got) for rule, got in row.faults]
    return row


def _read_pair(value: Value, form: Form, fields: FieldNames, row: Row) -> None:
    sides = [_with_input(value, form, fields, row), value[form.keys[1]]]
    if all(read := [_turns_in(side) for side in sides]):
        sides = read
    are_texts = any(isinstance(side, str) for side in sides)
    for side, key in zip(sides, form.keys, strict=True):
        # Messages have a role each; an object without one is some other record.
        turns = side if isinstance(side, list) else [side]
        if are_texts != isinstance(side, str) or not (are_texts or all(map(is_turn, turns))):
            row.faults.append(("wrong_type", f"{key} that is {json_type(side)}"))
    if row.faults:
        return
    _read_history(value, fields, row)
    for side, key, role in zip(sides, form.keys, ("user", "assistant"), strict=True):
        if isinstance(side, str):
            rule = "empty_prompt" if role == "user" else "empty_response"
            row.faults += [(rule, f"{key} {excerpt(side)}")] if not side.strip() else text_faults(side)
        messages, faults = read_messages(side, key, fields.metadata, role)
        if role == "user":  # the prompt's own answers are context, as in TRL
            messages = [m | {"weight": 0} if m["role"] == "assistant" else m for m in messages]
        row.messages += messages
        row.faults += faults
    if are_texts and isinstance(reasoning := value.get("reasoning_content"), str):
        row.used.add("reasoning_content")
        row.faults += text_faults(reasoning)
        row.messages[-1] |= {"reasoning_content": reasoning} if reasoning else {}


def _turns_in(side: Any) -> list[Any] | None:
    """The turns of a text that holds JSON of messages, as tables have them; None for another text."""
    try:
        turns = read_json(side) if isinstance(side, str) and side.lstrip().startswith("[") else None
    except ValueError:
        return None
    return turns if isinstance(turns, list) and all(map(is_turn, turns)) else None


def _with_input(value: Value, form: Form, fields: FieldNames, row: Row) -> Any:
    """The prompt, and below it Alpaca's second part, as LLaMA-Factory and ms-swift join them."""
    prompt = value[form.keys[0]]
    keys = INPUT_KEYS if fields.input == DEFAULTS.input else (fields.input,)
    if form.keys[0] != "instruction" and fields.input == DEFAULTS.input:
        return prompt
    for key in keys:
        part = value.get(key)
        if part is None or key in form.keys:
            continue
        row.used.add(key)
        if not isinstance(part, str):
            row.faults.append(("wrong_type", f"{key} that is {json_type(part)}"))
        elif part.strip() and isinstance(prompt, str):
            row.faults += text_faults(part)
            prompt = f"{prompt}\n{part}" if prompt.strip() else part
    return prompt


def _read_history(value: Value, fields: FieldNames, row: Row) -> None:
    """Reads earlier turns: pairs of texts, or messages. Other values stay metadata."""
    try:
        history = read_json(value.get(fields.history))
    except ValueError:
        return
    if not isinstance(history, list):
        return
    if all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in history):
        history = [{"user": user, "assistant": assistant} for user, assistant in history]
    if all(isinstance(turn, dict) for turn in history):
        messages, faults = read_messages(history, fields.history, fields.metadata)
        row.messages, row.faults = messages, row.faults + faults
        row.used.add(fields.history)


def _read_system(value: Value, fields: FieldNames, row: Row) -> None:
    keys = SYSTEM_KEYS if fields.system == DEFAULTS.system else (fields.system,)
    texts = {key: value[key] for key in keys if isinstance(value.get(key), str)}
    row.used |= set(texts)
    for key, text in texts.items():
        if not text.strip():
            continue
        row.faults += text_faults(text)
        if not row.messages or row.messages[0]["role"] != "system":
            row.messages.insert(0, {"role": "system", "content": text})
        elif row.messages[0]["content"] != text:
            row.faults.append(("ambiguous_form", f"{key} and another system message"))


def _read_tools(value: Value, fields: FieldNames, row: Row) -> None:
    keys = TOOL_KEYS if fields.tools == DEFAULTS.tools else (fields.tools,)
    for key in keys:
        if value.get(key) is None:
            continue
        row.used.add(key)
        try:
            row.tools = tool_definitions(value[key]) or row.tools
            row.faults += text_faults(json.dumps(row.tools, ensure_ascii=False, default=str))
        except ValueError as error:
            row.faults.append(("wrong_type", f"{key}: {error}"))


def _turn_faults(messages: Messages) -> Iterator[Fault]:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "assistant" or set(roles) == {"assistant"}:
        yield "turn_order", f"roles {excerpt(', '.join(roles))}"
    elif not any(message["role"] == "assistant" and "weight" not in message for message in messages):
        yield "nothing_to_learn", "marks against every turn of the assistant"
    elif not any(message["content"].strip() for message in messages if message["role"] != "assistant"):
        yield "empty_prompt", excerpt("")


def _differing(value: Value, row: Row, form: Form, others: list[Form], fields: FieldNames) -> Iterator[Fault]:
    """Yields a fault for another form whose texts are not those of the row's form."""
    is_plain = form.keys in ((fields.messages,), (fields.prompt, fields.response))
    for other in others:
        # Beside the two forms of our own, keys of others are metadata; the plan lists them.
        if set(other.keys) <= row.used or (is_plain and other.keys != (fields.prompt, fields.response)):
            continue
        again = _read(value, other, fields)
        if not again.faults and not _holds(again, row):
            yield "ambiguous_form", f"{form}, and other texts in {other}"
            return


def _holds(other: Row, row: Row) -> bool:
    """True if another form of a row repeats its texts, or is made of them with a template around them."""
    answers = {message["content"].strip() for message in row.messages if message["role"] == "assistant"}
    asked = [message["content"].strip() for message in row.messages if message["role"] not in ("assistant", "system")]
    if other.text is not None:
        return all(part in other.text for part in (row.messages[-1]["content"].strip(), asked[0].split("\n")[0]))
    for message in other.messages:
        text = message["content"].strip()
        if message["role"] == "assistant" and text not in answers:
            return False
        if message["role"] not in ("assistant", "system") and not any(text in one or one in text for one in asked):
            return False
    return True
