"""Tell which form a row of a data set has, and read it into messages, tools or plain text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from trainables.config.sections import FieldNames
from trainables.data.defects import excerpt, json_type
from trainables.data.forms.known_keys import (
    CONVERSATION_KEYS,
    INPUT_KEYS,
    PROMPT_LIKE,
    RESPONSE_LIKE,
    SYSTEM_KEYS,
    TOOL_KEYS,
    UNREADABLE,
    Fault,
    Messages,
)
from trainables.data.forms.messages import is_sharegpt, read_messages, text_faults
from trainables.data.forms.tool_calls import Definition, read_json, tool_definitions

Value = Mapping[str, Any]
SHOWN_KEYS = 12
DEFAULTS = FieldNames()


class Form(NamedTuple):
    """A form of rows.

    Attributes:
        name: As in `data.format`.
        keys: The keys of its texts: one conversation, prompt and response, or a text.
    """

    name: str
    keys: tuple[str, ...]


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


def forms(fields: FieldNames) -> list[Form]:
    """All forms with the keys that the config gives them, those first that win over others."""
    return _forms(fields.messages, fields.prompt, fields.response, fields.text)


@cache  # asked for each row
def _forms(messages: str, prompt: str, response: str, text: str) -> list[Form]:
    known = CONVERSATION_KEYS if messages == DEFAULTS.messages else (messages,)
    conversations = [key for key in known if key not in (prompt, response)]
    all_forms = [
        *(Form(name, (key,)) for key in conversations for name in ("messages", "sharegpt")),
        Form("prompt_response", (prompt, response)),
        Form("prompt_completion", (prompt, "completion")),
        *(Form("alpaca", ("instruction", answer)) for answer in ("output", "response")),
        Form("query_response", ("query", "response")),
        Form("text", (text,)),
    ]
    return sorted(all_forms, key=lambda form: not _is_mapped(form))


def columns_fit(columns: Collection[str], fields: FieldNames, wanted: str) -> bool:
    """True if rows with these columns can have the wanted form (or with "auto" any)."""
    return any(set(form.keys) <= set(columns) for form in forms(fields) if wanted in ("auto", form.name))


def read_row(value: Value, fields: FieldNames, wanted: str) -> Row:
    """Reads a row.

    Args:
        value: The row.
        fields: Names of the keys.
        wanted: The form that the row must have, or "auto".
    """
    if fields.metadata:
        value = {key: part for key, part in value.items() if key not in fields.metadata}
    found = [form for form in forms(fields) if wanted in ("auto", form.name) and _has(value, form, wanted)]
    if not found:
        return Row("", faults=list(_no_form(value, fields, wanted)))
    form = found[0]
    row = _read(value, form, fields)
    if wanted == "auto" and not _is_mapped(form) and not row.faults:
        row.faults += _differing(value, row, form, found[1:], fields)
    if form.name == "prompt_completion" and value.get("label") is False:  # TRL's unpaired preferences
        row.faults.append(("turn_mark", "label false, which marks an answer that is not wanted"))
    row.faults += [
        ("unreadable_part", f"{key}: {why}")
        for key, why in UNREADABLE.items()
        if isinstance(value.get(key), list | dict) and value[key]
    ]
    return row


def _has(value: Value, form: Form, wanted: str) -> bool:
    first = value.get(form.keys[0])
    if first is None or value.get(form.keys[-1]) is None:
        return False
    if form.name in ("messages", "sharegpt"):
        # An empty list stands where the rows of another form were joined with these.
        filled = first not in ([], "") or wanted == form.name
        return filled and is_sharegpt(first) == (form.name == "sharegpt")
    return form.name != "text" or isinstance(first, str)


def _is_mapped(form: Form) -> bool:
    """True where the user named the keys, so that there is nothing to guess."""
    if form.name == "prompt_response":
        return form.keys != (DEFAULTS.prompt, DEFAULTS.response)
    return len(form.keys) == 1 and form.keys[0] not in (*CONVERSATION_KEYS, DEFAULTS.text)


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
    if "chosen" in value and (hint := mapping(list(value), fields)):
        row.faults = [(rule, f"{got} (try {hint})" if rule == "turn_order" else got) for rule, got in row.faults]
    return row


def _read_pair(value: Value, form: Form, fields: FieldNames, row: Row) -> None:
    sides = [_with_input(value, form, fields, row), value[form.keys[1]]]
    are_texts = any(isinstance(side, str) for side in sides)
    for side, key in zip(sides, form.keys, strict=True):
        # Messages have a role each; an object without one is some other record.
        turns = side if isinstance(side, list) else [side]
        if are_texts != isinstance(side, str) or not (are_texts or all(map(_is_turn, turns))):
            row.faults.append(("wrong_type", f"{key} that is {json_type(side)}"))
    if row.faults:
        return
    _read_history(value, fields, row)
    for side, key, role in zip(sides, form.keys, ("user", "assistant"), strict=True):
        if isinstance(side, str):
            rule = "empty_prompt" if role == "user" else "empty_response"
            row.faults += [(rule, f"{key} {excerpt(side)}")] if not side.strip() else text_faults(side)
        messages, faults = read_messages(side, key, fields.metadata, role)
        row.messages += messages
        row.faults += faults
    if are_texts and isinstance(reasoning := value.get("reasoning_content"), str):
        row.used.add("reasoning_content")
        row.messages[-1] |= {"reasoning_content": reasoning} if reasoning else {}


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


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
            yield "ambiguous_form", f"{' and '.join(form.keys)}, and other texts in {' and '.join(other.keys)}"
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


def _no_form(value: Value, fields: FieldNames, wanted: str) -> Iterator[Fault]:
    pair = (fields.prompt, fields.response)
    if wanted != "auto":
        keys = " or ".join(dict.fromkeys(" and ".join(form.keys) for form in forms(fields) if form.name == wanted))
        yield "missing_field", f"no {keys} in the form data.format={wanted}"
    elif set(pair) <= set(value):
        yield from (("wrong_type", f"{key} that is null") for key in pair if value[key] is None)
    elif any(value.get(key) == [] for key in (*CONVERSATION_KEYS, fields.messages)):
        yield "turn_order", "roles ''"
    else:
        held = [key for key, part in value.items() if part is not None]
        hint = mapping(held, fields) or next(filter(None, (_hint_of_list(key, value[key]) for key in held)), "")
        if not hint and len(absent := [key for key in pair if key not in held]) == 1:
            yield "missing_field", f"no {absent[0]}"
            return
        listed = ", ".join(map(excerpt, held[:SHOWN_KEYS])) + ", …" * (len(held) > SHOWN_KEYS)
        yield "missing_field", f"keys {listed or 'none'}" + f" (try {hint})" * bool(hint)


def _hint_of_list(key: str, value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return ""
    return f"data.fields.messages={key}" if any(map(_is_turn, value)) else f"jq -c '.{key}[]' FILE > NEW.jsonl"


def mapping(held: Collection[str], fields: FieldNames) -> str:
    """The settings that map a row's keys, where their names tell what they hold."""
    for chosen in ("chosen", "chosen_messages"):
        if chosen in held:
            asked = next((key for key in (*CONVERSATION_KEYS, fields.prompt, *PROMPT_LIKE) if key in held), None)
            if asked:
                return f"data.fields.prompt={asked} data.fields.response={chosen}"
            return f"data.fields.messages={chosen}"
    asked = next((key for key in (fields.prompt, *PROMPT_LIKE) if key in held), None)
    answer = next((key for key in (fields.response, *RESPONSE_LIKE) if key in held and key != asked), None)
    if asked and answer:
        return f"data.fields.prompt={asked} data.fields.response={answer}"
    return ""
