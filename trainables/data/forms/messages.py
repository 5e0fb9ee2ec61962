"""Read the turns of a conversation in any of the known forms into `{"role", "content"}` messages."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from trainables.data.defects import excerpt, json_type
from trainables.data.forms.content import Parts, text_faults
from trainables.data.forms.known_keys import (
    ASSISTANT_MARKS,
    CALL_ROLES,
    CONTENT_KEYS,
    MARKS,
    PAIR_KEYS,
    REASONING_KEYS,
    RESULT_ROLES,
    ROLES,
    SPAN_MARKS,
    UNREADABLE,
    Fault,
    Messages,
)
from trainables.data.forms.tool_calls import read_json


def read_messages(value: Any, name: str, ignored: Container[str], role: str = "") -> tuple[Messages, list[Fault]]:
    """Reads a conversation: a list of turns, one turn, or JSON text of these.

    Args:
        value: What the row holds.
        name: The key that holds it, for faults.
        ignored: Message keys that are to be left out.
        role: Who speaks where the value is a text of its own; empty where it must be a conversation.

    Returns:
        The messages, whose `content` is a text and whose `weight` is 0 where the data says not to learn a turn; and
        all faults. With faults the messages are incomplete.
    """
    if role and isinstance(value, str):
        return [{"role": role, "content": value}], []
    try:
        turns = read_json(value)
    except ValueError:
        return [], [("wrong_type", f"{name} that is text, and no JSON")]
    turns = _turn_list(turns)
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        texts = isinstance(turns, list) and all(isinstance(turn, str) for turn in turns)
        kind = " of texts, which do not say who speaks" if texts else " of other things" * isinstance(turns, list)
        return [], [("wrong_type", f"{name} that is {json_type(turns)}{kind}")]
    calls = any(_role_name(turn) in CALL_ROLES or turn.get("tool_calls") for turn in turns) or _has_sharegpt_keys(turns)
    reader = _Reader(ignored, {**ROLES, **dict.fromkeys(RESULT_ROLES, "tool")} if calls else ROLES)
    for i, turn in enumerate(turns):
        for part in _halves(turn):
            reader.read(part, f"{name}[{i}]")
    return reader.messages, reader.faults


def _turn_list(turns: Any) -> Any:
    """A turn as a list of one; a table of turns (a list under each key, as `datasets` keeps them) as its rows."""
    if not isinstance(turns, dict):
        return turns
    columns = list(turns.values())
    if not all(isinstance(column, list) for column in columns) or len({len(column) for column in columns}) != 1:
        return [turns]
    return [dict(zip(turns, row, strict=True)) for row in zip(*columns, strict=True)]


def _has_sharegpt_keys(turns: list[dict[str, Any]]) -> bool:
    return any("from" in turn and "role" not in turn for turn in turns)


def is_sharegpt(value: Any) -> bool:
    """True for turns with `from` and `value`, or with both speakers in one object."""
    try:
        turns = _turn_list(read_json(value))
    except ValueError:
        return False
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return False
    return _has_sharegpt_keys(turns) or any(len(list(_halves(turn))) > 1 for turn in turns)


def _halves(turn: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields a turn, or the turns of an object that holds the texts of both speakers."""
    user, assistant = (next((key for key in keys if key in turn), None) for keys in PAIR_KEYS)
    if "role" in turn or "from" in turn or user is None or assistant is None:
        yield turn
        return
    if turn.get("system"):
        yield {"role": "system", "content": turn["system"]}
    yield {"role": "user", "content": turn[user]}
    rest = {key: value for key, value in turn.items() if key not in ("system", user, assistant)}
    yield {"role": "assistant", "content": turn[assistant], **rest}


def _role_name(turn: dict[str, Any]) -> str:
    role = turn.get("role", turn.get("from"))
    return role.strip().lower().replace("-", "_") if isinstance(role, str) else ""


class _Reader:
    """Collects messages and faults, turn by turn."""

    def __init__(self, ignored: Container[str], roles: dict[str, str]) -> None:
        self._ignored = ignored
        self._roles = roles
        self._call_before = False  # whether the last message came from a turn that is a call alone
        self.messages: Messages = []
        self.faults: list[Fault] = []

    def read(self, turn: dict[str, Any], name: str) -> None:
        turn = {key: value for key, value in turn.items() if value is not None and key not in self._ignored}
        role = turn.pop("from" if "role" not in turn else "role", None)
        if not isinstance(role, str) or text_faults(role):
            got = f"no {name}.role" if role is None else f"{name}.role that is {json_type(role)}"
            self.faults.append(("missing_field" if role is None else "wrong_type", got))
            return
        is_call = _role_name({"role": role}) in CALL_ROLES
        role = "assistant" if is_call else self._roles.get(_role_name({"role": role}), role)
        content = turn.pop(next((key for key in CONTENT_KEYS if key in turn), ""), None)
        parts = Parts()
        for calls in (turn.pop("tool_calls", None), turn.pop("function_call", None), content if is_call else None):
            parts.read_calls(calls, name)
        parts.read(None if is_call else content, f"{name}.content")
        self._read_reasoning(turn, parts, name)
        parts.faults += [
            ("unreadable_part", f"{name}.{key}: {why}")
            for key, why in UNREADABLE.items()
            if isinstance(turn.get(key), list | dict) and turn[key]
        ]
        learnt = self._mark(turn, role, parts, name)
        self.faults += parts.faults or _empty(role, content, parts, f"{name}.content")
        self.messages += parts.results
        if parts.texts or not parts.results:
            self._add(role, parts, turn, learnt, is_call)

    def _read_reasoning(self, turn: dict[str, Any], parts: Parts, name: str) -> None:
        given: list[Any] = []
        for key in REASONING_KEYS:
            # Some servers write one thought under two names; an object there is a setting.
            is_thought = key == "reasoning_content" or isinstance(turn.get(key), str | list)
            if is_thought and (value := turn.pop(key, None)) is not None and value not in given:
                parts.read(value, f"{name}.{key}", is_reasoning=True)
                given.append(value)
        if len(given) > 1:
            parts.faults.append(("ambiguous_form", f"{name} with two different thoughts"))

    def _add(self, role: str, parts: Parts, rest: dict[str, Any], learnt: bool, is_call: bool) -> None:
        # ms-swift gives each of several calls at once a turn of its own; templates take them in one.
        if is_call and self._call_before:
            self.messages[-1].setdefault("tool_calls", []).extend(parts.calls)
            return
        self._call_before = is_call
        message = {"role": role, "content": "".join(parts.texts), **rest}
        if parts.reasoning:
            message["reasoning_content"] = "".join(parts.reasoning)
        if parts.calls:
            message["tool_calls"] = parts.calls
        if role == "assistant" and not learnt:
            message["weight"] = 0
        self.messages.append(message)

    def _mark(self, turn: dict[str, Any], role: str, parts: Parts, name: str) -> bool:
        """Takes a turn's marks out of it; returns whether the turn is learnt."""
        found: set[bool] = set()
        for key in [key for key in MARKS if key in turn]:
            value = turn.pop(key)
            learn = bool(value) == MARKS[key]
            if value not in (0, 1):  # True and False are 1 and 0 in Python
                self.faults.append(("turn_mark", f"{name}.{key} {excerpt(str(value))}"))
            elif role == "assistant":
                found.add(learn)
            elif learn and key not in ASSISTANT_MARKS:
                self.faults.append(("turn_mark", f"{name}.{key} on a turn of {excerpt(role)}"))
        if any(mark is not None for mark in parts.marks):
            # A part without a mark is learnt as its turn is.
            whole = False not in found
            found |= {whole if mark is None else mark for mark in parts.marks}
        self.faults += [
            ("turn_mark", f"{name}.{key}, which marks parts of a turn") for key in SPAN_MARKS if turn.pop(key, None)
        ]
        if len(found) > 1:
            self.faults.append(("turn_mark", f"{name} with marks for and against learning it"))
        return False not in found


def _empty(role: str, content: Any, parts: Parts, name: str) -> list[Fault]:
    """Returns a fault for a user or assistant who says nothing and calls nothing."""
    text = "".join(parts.texts)
    if role not in ("user", "assistant") or text.strip() or parts.results or (role == "assistant" and parts.calls):
        return []
    if content is None:
        return [("missing_field", f"no {name}")]
    return [("empty_prompt" if role == "user" else "empty_response", f"{name} {excerpt(text)}")]
