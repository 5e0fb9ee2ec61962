"""Tell the form of a row by its keys, or say how to map them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from trainables.config.data_sections import FieldNames
from trainables.data.defects import excerpt, json_type
from trainables.data.forms.known_keys import CONVERSATION_KEYS, PROMPT_LIKE, RESPONSE_LIKE, Fault
from trainables.data.forms.messages import is_sharegpt

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

    def __str__(self) -> str:
        return f"{' and '.join(self.keys)} ({self.name})"


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
    return sorted(all_forms, key=lambda form: not is_mapped(form))


def columns_fit(columns: Collection[str], fields: FieldNames, wanted: str) -> bool:
    """True if rows with these columns can have the wanted form (or with "auto" any)."""
    return any(set(form.keys) <= set(columns) for form in forms(fields) if wanted in ("auto", form.name))


def has_form(value: Value, form: Form, wanted: str) -> bool:
    """True if a row has the texts of a form, which `wanted` may force."""
    first = value.get(form.keys[0])
    if first is None or value.get(form.keys[-1]) is None:
        return False
    if form.name in ("messages", "sharegpt"):
        # An empty list stands where the rows of another form were joined with these.
        filled = first not in ([], "") or wanted == form.name
        return filled and is_sharegpt(first) == (form.name == "sharegpt")
    return form.name != "text" or isinstance(first, str)


def is_mapped(form: Form) -> bool:
    """True where the user named the keys, so that there is nothing to guess."""
    if form.name == "prompt_response":
        return form.keys != (DEFAULTS.prompt, DEFAULTS.response)
    return len(form.keys) == 1 and form.keys[0] not in (*CONVERSATION_KEYS, DEFAULTS.text)


def is_turn(value: Any) -> bool:
    """True for an object that says who speaks."""
    return isinstance(value, dict) and ("role" in value or "from" in value)


def no_form(value: Value, fields: FieldNames, wanted: str) -> Iterator[Fault]:
    """Yields why a row has no form, with a mapping where its keys suggest one."""
    pair = (fields.prompt, fields.response)
    if wanted != "auto":
        keys = " or ".join(dict.fromkeys(" and ".join(form.keys) for form in forms(fields) if form.name == wanted))
        yield "missing_field", f"no {keys} in the form data.format={wanted}"
    elif set(pair) <= set(value):
        yield from (("wrong_type", f"{key} that is null") for key in pair if value[key] is None)
    elif any(value.get(key) == [] for key in (*CONVERSATION_KEYS, fields.messages)):
        yield "turn_order", "roles ''"
    elif incomplete := next((form for form in forms(fields) if _lacks_texts(value, form)), None):
        yield from (
            ("wrong_type", f"{key} that is {json_type(value[key])}")
            for key in incomplete.keys
            if value[key] is None or incomplete.name == "text"
        )
    else:
        held = {key: part for key, part in value.items() if part is not None}
        hint = mapping(held, fields) or next(filter(None, (_hint_of_list(key, value[key]) for key in held)), "")
        if not hint and len(absent := [key for key in pair if key not in held]) == 1:
            yield "missing_field", f"no {absent[0]}"
            return
        listed = ", ".join(map(excerpt, [*held][:SHOWN_KEYS])) + ", …" * (len(held) > SHOWN_KEYS)
        yield "missing_field", f"keys {listed or 'none'}" + f" (try {hint})" * bool(hint)


def _lacks_texts(value: Value, form: Form) -> bool:
    """True if a row has the keys of a form for texts, but not all of the texts."""
    if form.name == "text":
        return value.get(form.keys[0]) is not None
    return len(form.keys) == 2 and set(form.keys) <= set(value) and any(value[key] is not None for key in form.keys)


def _hint_of_list(key: str, value: Any) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return ""
    if any(map(is_turn, value)):
        return f"data.fields.messages={key}" if len(value) > 1 else ""
    # Parts of one sample, such as Axolotl's segments, are no samples.
    rows = all(columns_fit(one, DEFAULTS, "auto") and not {"label", "train"} & set(one) for one in value)
    return f"jq -c '.{key}[]' FILE > NEW.jsonl" if rows else ""


def mapping(held: Collection[str], fields: FieldNames) -> str:
    """The settings that map a row's keys, where their names tell what they hold.

    Args:
        held: The names of columns, or a row.
        fields: Names of the keys.
    """
    for chosen in ("chosen", "chosen_messages"):
        if chosen in held:
            better = held[chosen] if isinstance(held, Mapping) else None
            if isinstance(better, list) and len(better) > 1 and all(map(is_turn, better)):
                return f"data.fields.messages={chosen}"  # the whole conversation, prompt included
            asked = next((key for key in (*CONVERSATION_KEYS, fields.prompt, *PROMPT_LIKE) if key in held), None)
            if asked:
                return f"data.fields.prompt={asked} data.fields.response={chosen}"
            if isinstance(better, str):
                return f"data.fields.text={chosen}"
            return f"data.fields.messages={chosen}"
    asked = _called(held, (fields.prompt, *PROMPT_LIKE))
    answer = _called([key for key in held if key != asked], (fields.response, *RESPONSE_LIKE))
    if asked and answer:
        return f"data.fields.prompt={asked} data.fields.response={answer}"
    return ""


def _called(held: Collection[str], names: Collection[str]) -> str | None:
    """The key of the first name that there is, in upper or lower case."""
    return next((key for name in names for key in held if key.strip().lower() == name.lower()), None)
