"""Read the turns of a conversation in any of the known forms into `{"role", "content"}` messages."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from trainables.data.defects import excerpt, json_type
from trainables.data.forms.known_keys import (
    ASSISTANT_MARKS,
    CALL_ROLES,
    MARKS,
    PAIR_KEYS,
    PART_TEXT_KEYS,
    REASONING_PARTS,
    RESULT_ROLES,
    ROLES,
    SPAN_MARKS,
    TEXT_PARTS,
    Fault,
    Messages,
)
from trainables.data.forms.tool_calls import read_json, tool_calls


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
        return [], [("wrong_type", f"{name} that is {json_type(turns)}" + " of other things" * isinstance(turns, list))]
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


class _Parts:
    """The contents of a message, sorted by what they are."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.marks: set[bool] = set()
        self.unreadable = False  # whether there is a fault already


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
        role_key, content_key = (new if new in turn or old not in turn else old for new, old in RENAMED)
        role = turn.pop(role_key, None)
        if not isinstance(role, str):
            got = f"no {name}.role" if role is None else f"{name}.role that is {json_type(role)}"
            self.faults.append(("missing_field" if role is None else "wrong_type", got))
            return
        is_call = _role_name({"role": role}) in CALL_ROLES
        role = "assistant" if is_call else self._roles.get(_role_name({"role": role}), role)
        content = turn.pop(content_key, None)
        parts = _Parts()
        try:
            self._sort_calls(turn, content if is_call else None, parts)
        except ValueError as error:
            self.faults.append(("wrong_type", f"{name}: a tool call with {error}"))
            return
        if not is_call:
            self._sort_content(content, f"{name}.content", parts)
        self._sort_content(turn.pop("reasoning_content", None), f"{name}.reasoning_content", parts, is_reasoning=True)
        learnt = self._mark(turn, role, parts, name)
        self._add(role, parts, turn, learnt, name, is_call, content)

    def _add(
        self, role: str, parts: _Parts, rest: dict[str, Any], learnt: bool, name: str, is_call: bool, content: Any
    ) -> None:
        self.messages += parts.results
        if parts.results and not parts.texts:
            return
        # ms-swift gives each of several calls at once a turn of its own; templates take them in one.
        if is_call and self._call_before:
            self.messages[-1]["tool_calls"] += parts.calls
            return
        self._call_before = is_call
        text = "".join(parts.texts)
        if parts.unreadable:
            return
        self._check_text(role, text, content, bool(parts.calls), f"{name}.content")
        message = {"role": role, "content": text, **rest}
        if parts.reasoning:
            message["reasoning_content"] = "".join(parts.reasoning)
        if parts.calls:
            message["tool_calls"] = parts.calls
        if role == "assistant" and not learnt:
            message["weight"] = 0
        self.messages.append(message)

    def _check_text(self, role: str, text: str, content: Any, has_calls: bool, name: str) -> None:
        must = role == "user" or (role == "assistant" and not has_calls)
        if content is None and must:
            self.faults.append(("missing_field", f"no {name}"))
        elif must and not text.strip() and isinstance(content, str | list):
            self.faults.append(("empty_prompt" if role == "user" else "empty_response", f"{name} {excerpt(text)}"))
        self.faults += text_faults(text)

    def _sort_calls(self, turn: dict[str, Any], call: Any, parts: _Parts) -> None:
        for value in (turn.pop("tool_calls", None), turn.pop("function_call", None), call):
            if value:
                parts.calls += tool_calls(value)

    def _sort_content(self, content: Any, name: str, parts: _Parts, *, is_reasoning: bool = False) -> None:
        if content is None:
            return
        if not isinstance(content, list):
            if isinstance(content, str):
                (parts.reasoning if is_reasoning else parts.texts).append(content)
            else:
                self.faults.append(("wrong_type", f"{name} that is {json_type(content)}"))
            return
        for i, part in enumerate(content):
            self._sort_part(part, f"{name}[{i}]", parts, is_reasoning)

    def _sort_part(self, part: Any, name: str, parts: _Parts, is_reasoning: bool) -> None:
        part = {"text": part} if isinstance(part, str) else part
        if not isinstance(part, dict):
            self.faults.append(("wrong_type", f"{name} that is {json_type(part)}"))
            return
        kind = part.get("type", "text")
        value = next((part[key] for key in PART_TEXT_KEYS if part.get(key) is not None), None)
        try:
            if kind in ("tool_call", "tool_use"):
                parts.calls += tool_calls(value if kind == "tool_call" else part)
                return
        except ValueError as error:
            self.faults.append(("wrong_type", f"{name}: a tool call with {error}"))
            return
        if kind == "tool_result":
            inner = _Parts()
            self._sort_content(part.get("content"), f"{name}.content", inner)
            ids = {"tool_call_id": part["tool_use_id"]} if part.get("tool_use_id") else {}
            parts.results.append({"role": "tool", "content": "".join(inner.texts), **ids})
        elif kind in (*TEXT_PARTS, *REASONING_PARTS):
            if isinstance(value, list):
                self._sort_content(value, name, parts, is_reasoning=is_reasoning or kind in REASONING_PARTS)
            elif isinstance(value, str):
                (parts.reasoning if is_reasoning or kind in REASONING_PARTS else parts.texts).append(value)
            else:
                self.faults.append(("wrong_type", f"{name} without a text"))
            parts.marks |= {part[key] not in (0, False) for key in ("train", "weight") if part.get(key) is not None}
        else:
            self.faults.append(("unreadable_part", f"{name} of type {excerpt(str(kind))}"))
            parts.unreadable = True

    def _mark(self, turn: dict[str, Any], role: str, parts: _Parts, name: str) -> bool:
        """Takes a turn's marks out of it; returns whether the turn is learnt."""
        found: set[bool] = set(parts.marks)
        for key in [key for key in MARKS if key in turn]:
            value = turn.pop(key)
            if value not in (0, 1):  # True and False are 1 and 0 in Python
                self.faults.append(("turn_mark", f"{name}.{key} {excerpt(str(value))}"))
                continue
            learn = bool(value) == MARKS[key]
            if role != "assistant":
                if learn and key not in ASSISTANT_MARKS:
                    self.faults.append(("turn_mark", f"{name}.{key} on a turn of {excerpt(role)}"))
                continue
            found.add(learn)
        for key in [key for key in SPAN_MARKS if key in turn]:
            spans = turn.pop(key)
            if spans:
                self.faults.append(("turn_mark", f"{name}.{key}, which marks parts of a turn"))
        if len(found) > 1:
            self.faults.append(("turn_mark", f"{name} with marks for and against learning it"))
        return False not in found


RENAMED = (("role", "from"), ("content", "value"))


def text_faults(text: str) -> list[Fault]:
    """Returns a fault for a text that UTF-8 cannot write: JSON can hold unpaired surrogates as escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return [("invalid_text", excerpt(text))]
    return []
