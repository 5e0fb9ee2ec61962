"""Sort the content of a message: texts, reasoning, tool calls and results of tools, in the parts that APIs know."""

from __future__ import annotations

import json
from typing import Any

from trainables.data.defects import excerpt, json_type
from trainables.data.forms.known_keys import PART_TEXT_KEYS, REASONING_PARTS, TEXT_PARTS, Fault, Messages
from trainables.data.forms.tool_calls import tool_calls


class Parts:
    """The content of a message, sorted by what it is.

    Attributes:
        texts: What is said.
        reasoning: What is thought before.
        calls: Calls of tools.
        results: Messages of tools, which Anthropic puts into a message of the user.
        marks: Of each part of a list, whether it is marked as learnt; None for one without a mark.
        faults: What cannot be read.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: Messages = []
        self.marks: list[bool | None] = []
        self.faults: list[Fault] = []

    def read(self, content: Any, name: str, *, is_reasoning: bool = False) -> None:
        """Adds a text, a list of parts, or nothing (null).

        Args:
            content: What the message holds.
            name: Where it stands, for faults.
            is_reasoning: Whether its texts are reasoning, whatever their type.
        """
        if isinstance(content, list):
            for i, part in enumerate(content):
                self._read_part({"text": part} if isinstance(part, str) else part, f"{name}[{i}]", is_reasoning)
        elif isinstance(content, str):
            (self.reasoning if is_reasoning else self.texts).append(content)
            self.faults += text_faults(content)
        elif content is not None:
            self.faults.append(("wrong_type", f"{name} that is {json_type(content)}"))

    def read_calls(self, value: Any, name: str) -> None:
        """Adds calls of tools in any form; null and an empty list are none."""
        try:
            calls = tool_calls(value) if value else []
        except ValueError as error:
            self.faults.append(("wrong_type", f"{name}: a tool call with {error}"))
            return
        self.calls += calls
        self.faults += text_faults(json.dumps(calls, ensure_ascii=False))

    def _read_part(self, part: Any, name: str, is_reasoning: bool) -> None:
        if not isinstance(part, dict):
            self.faults.append(("wrong_type", f"{name} that is {json_type(part)}"))
            return
        marks = [part[key] not in (0, False) for key in ("train", "weight") if part.get(key) is not None]
        self.marks.append(all(marks) if marks else None)
        kind = part.get("type", "text")
        value = next((part[key] for key in PART_TEXT_KEYS if part.get(key) is not None), None)
        if kind in ("tool_call", "tool_use"):
            self.read_calls(value if kind == "tool_call" else part, name)
        elif kind == "tool_result":
            inner = Parts()
            inner.read(part.get("content"), f"{name}.content")
            ids = {"tool_call_id": part["tool_use_id"]} if part.get("tool_use_id") else {}
            self.results.append({"role": "tool", "content": "".join(inner.texts), **ids})
            self.faults += inner.faults
        elif kind not in (*TEXT_PARTS, *REASONING_PARTS):
            self.faults.append(("unreadable_part", f"{name} of type {excerpt(str(kind))}"))
        elif isinstance(value, str | list):
            self.read(value, name, is_reasoning=is_reasoning or kind in REASONING_PARTS)
        else:
            self.faults.append(("wrong_type", f"{name} without a text"))


def text_faults(text: str) -> list[Fault]:
    """Returns a fault for a text that UTF-8 cannot write: JSON can hold unpaired surrogates as escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return [("invalid_text", excerpt(text))]
    return []
