"""Ten conversations of the shapes that chat templates treat differently, in words that occur in no template."""

from __future__ import annotations

from typing import Any

from trainables.data.samples import Sample

Message = dict[str, Any]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _said(text: str, **keys: Any) -> Message:
    return {"role": "assistant", "content": text, **keys}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "tide_at",
            "description": "Time of the next high tide.",
            "parameters": {
                "type": "object",
                "properties": {"port": {"type": "string", "description": "A harbour."}},
                "required": ["port"],
            },
        },
    }
]
CALL = {"id": "a1b2c3d4e", "type": "function", "function": {"name": "tide_at", "arguments": {"port": "Hull"}}}
RESULT = {"role": "tool", "name": "tide_at", "tool_call_id": "a1b2c3d4e", "content": "quarter to seven"}
SYSTEM = {"role": "system", "content": "Reply in Welsh only."}
HERON, LYNX = _user("How many legs has a heron?"), _user("And what of a lynx?")
TIDE = _user("Tide at Hull, please?")
CODE = "    if herons > 2:\n        return '{{ legs }}'"

CONVERSATIONS: dict[str, tuple[list[Message], list[Message] | None]] = {
    "one turn": ([HERON, _said("Two of them.")], None),
    "system": ([SYSTEM, HERON, _said("Two of them.")], None),
    "two turns": ([HERON, _said("Two of them."), LYNX, _said("Four paws.")], None),
    "system, two turns": ([SYSTEM, HERON, _said("Two of them."), LYNX, _said("Four paws.")], None),
    "tool round": ([TIDE, _said("", tool_calls=[CALL]), RESULT, _said("High at 06:45.")], TOOLS),
    "text beside a call": ([TIDE, _said("Let me look.", tool_calls=[CALL]), RESULT, _said("High at 06:45.")], TOOLS),
    "reasoning": ([HERON, _said("Two of them.", reasoning_content="Birds walk upright.")], None),
    "reasoning in the text": ([HERON, _said("<think>\nBirds walk upright.\n</think>\n\nTwo of them.")], None),
    "indented code": ([HERON, _said(CODE)], None),
    "other scripts": ([_user("鷺の脚は?"), _said("二本です🐦."), _user("وماذا عن الوشق؟"), _said("أربع.")], None),
}


def sample(name: str) -> Sample:
    """The conversation as a sample."""
    messages, tools = CONVERSATIONS[name]
    return Sample(name, messages, {}, 1, "conversations", tools)
