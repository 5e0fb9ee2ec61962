"""Find where a message's text stands in a rendered conversation.

The conversation is rendered a second time with a mark inside each text: a character that no text holds. A mark that is
not in the result belongs to a text that the template drops. Without its marks the result must be the first rendering,
so that each mark gives a position there, however often the text occurs.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainables.data.forms.known_keys import REASONING_KEYS

Message = dict[str, Any]

# Templates cut an assistant's content at such tags: what stands between two of them is marked for itself.
TAG = re.compile(r"(<[^<>\s]{1,40}>)")
THOUGHT_END = re.compile(r"</[^<>\s]*think[^<>\s]*>")
MOST_TAGS = 200  # in one content; bounds the number of marks
# Rare ideographs (CJK Extension B), of those that the text lacks: no template looks for one, changes its case or, as of
# private-use characters in Python's `repr`, escapes it.
MARKS = range(0x20000, 0x2A6D0)
MARK = re.compile(f"([{chr(MARKS[0])}-{chr(MARKS[-1])}])")
ESCAPED_MARK = re.compile(r"\\ud8[4-6][0-9a-f]\\ud[c-f][0-9a-f]{2}")


@dataclass(frozen=True)
class Piece:
    """A marked text.

    Attributes:
        message: Index of its message; None for the definitions of tools.
        kind: `content`, `reasoning`, `call` (a name or argument of a tool call) or `tools`.
        name: How an error names it.
        before: Its text before the mark.
        after: Its text behind the mark.
        lead: What the message's content holds before it, tags included.
        tail: What the content holds behind it.
    """

    message: int | None
    kind: str
    name: str
    before: str = ""
    after: str = ""
    lead: str = ""
    tail: str = ""


@dataclass(frozen=True)
class Found:
    """A piece and where its text stands: `text[start:stop]`; of a call, both are the place of the mark.

    Attributes:
        piece: The piece.
        start: Its first character.
        stop: Behind its last character.
        opening: Where the message's whole content begins, as far as it stands unchanged before the piece.
        closing: Where that content ends.
        is_verbatim: False where the template has changed the text around the mark.
    """

    piece: Piece
    start: int
    stop: int
    opening: int
    closing: int
    is_verbatim: bool


class MarkedConversation:
    """A copy of a conversation with marks in its texts.

    Args:
        messages: The conversation; contents are texts.
        tools: Definitions of tools, or None.
        rendered: The conversation as rendered without marks, in which no mark may occur.
    """

    def __init__(self, messages: list[Message], tools: list[Message] | None, rendered: str) -> None:
        taken = set(MARK.findall(rendered))
        self._free = (mark for mark in map(chr, MARKS) if mark not in taken)
        self._pieces: dict[str, Piece] = {}
        self.messages = [self._marked(i, copy.deepcopy(message)) for i, message in enumerate(messages)]
        self.tools = self._marked_tools(tools)

    @property
    def pieces(self) -> list[Piece]:
        return list(self._pieces.values())

    def locate(self, marked: str, text: str) -> list[Found] | None:
        """Finds the pieces in `text`, the rendering without marks, in the order in which they stand there.

        Returns:
            None if `marked` is not `text` with marks: the template looks at the texts in ways that a mark disturbs.
        """
        parts: list[str] = []
        found: dict[str, Found] = {}
        place = 0
        for part in MARK.split(ESCAPED_MARK.sub(self._unescaped, marked)):
            # The first place counts: some templates name the tool again where it answers.
            if part in self._pieces and part not in found:
                found[part] = _stands(self._pieces[part], place, text)
            if part not in self._pieces:
                parts.append(part)
                place += len(part)
        return list(found.values()) if "".join(parts) == text else None

    def _unescaped(self, hit: re.Match[str]) -> str:
        # `tojson(ensure_ascii=true)` writes a mark as two escapes.
        mark = str(json.loads(f'"{hit[0]}"'))
        return mark if mark in self._pieces else hit[0]

    def _mark(self, piece: Piece) -> str:
        mark = next(self._free)
        self._pieces[mark] = piece
        return mark

    def _marked(self, i: int, message: Message) -> Message:
        name = f"messages[{i}]"
        content = message.get("content") or ""
        # Reasoning first: templates put it before the content.
        for key in REASONING_KEYS:
            if isinstance(message.get(key), str) and message[key].strip():
                message[key] = self._in_text(message[key], i, "reasoning", f"{name}.{key}")
        if message.get("role") == "assistant":
            parts = TAG.split(content, maxsplit=MOST_TAGS)
            thought = max((k + 1 for k, part in enumerate(parts) if THOUGHT_END.fullmatch(part)), default=0)
            if not any(part.strip() for part in parts[thought::2]):  # an answer of tags alone, such as a label
                parts[thought:] = ["".join(parts[thought:])]
            marked = list(parts)
            for k in range(0, len(parts), 2):
                kind = "reasoning" if k < thought else "content"
                around = "".join(parts[:k]), "".join(parts[k + 1 :])
                marked[k] = self._in_text(parts[k], i, kind, f"{name}.content", *around)
            message["content"] = "".join(marked)
        elif content.strip():
            message["content"] = self._in_text(content, i, "content", f"{name}.content")
        for k, call in enumerate(message.get("tool_calls") or []):
            self._mark_call(call.get("function", call), i, f"{name}.tool_calls[{k}]")
        return message

    def _in_text(self, text: str, i: int, kind: str, name: str, lead: str = "", tail: str = "") -> str:
        if not text.strip():
            return text
        place = _boundary(text)
        return text[:place] + self._mark(Piece(i, kind, name, text[:place], text[place:], lead, tail)) + text[place:]

    def _mark_call(self, function: Message, i: int, name: str) -> None:
        if isinstance(function.get("name"), str):
            function["name"] += self._mark(Piece(i, "call", name))
        arguments = function.get("arguments")
        # The last text among the arguments: a mark there stands behind all that the call's syntax puts in between.
        for holder, key in reversed(list(_texts(arguments))):
            holder[key] = holder[key] + self._mark(Piece(i, "argument", f"{name} arguments"))
            break

    def _marked_tools(self, tools: list[Message] | None) -> list[Message] | None:
        marked = copy.deepcopy(tools)
        for k, tool in enumerate(marked or []):
            function = tool.get("function", tool)
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                function["name"] += self._mark(Piece(None, "tools", f"tools[{k}]"))
        return marked


def without_thought(content: str) -> str:
    """What an assistant's content says behind its thought, if it holds one between tags."""
    return THOUGHT_END.split(content)[-1].strip() if THOUGHT_END.search(content) else content


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """The places, as (holder, key), of all texts inside a JSON value."""
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(places):
        if isinstance(inner, str):
            yield value, key
        else:
            yield from _texts(inner)


def _boundary(text: str) -> int:
    """Where to put the mark: before a word near the middle, so that no word and neither end of the text changes."""
    stripped = len(text.rstrip())
    lead = len(text) - len(text.lstrip())
    starts = [hit.end() for hit in re.finditer(r"\s+", text[:stripped]) if hit.start() > lead]
    return min(starts, key=lambda place: abs(place - stripped // 2), default=stripped)


def _stands(piece: Piece, place: int, text: str) -> Found:
    if piece.kind in ("call", "argument", "tools"):
        return Found(piece, place, place, place, place, True)
    start, stop = _reach_back(piece.before, place, text), _reach_on(piece.after, place, text)
    verbatim = start is not None and stop is not None
    start, stop = (start, stop) if start is not None and stop is not None else (place, place)
    opening, closing = (
        _reach_back(piece.lead + piece.before, place, text),
        _reach_on(piece.after + piece.tail, place, text),
    )
    return Found(
        piece, start, stop, start if opening is None else opening, stop if closing is None else closing, verbatim
    )


def _reach_back(before: str, place: int, text: str) -> int | None:
    """Where `before` begins if the text holds it right before `place`, as it is or trimmed."""
    fits = (part for part in (before, before.lstrip()) if text.endswith(part, 0, place))
    return next((place - len(part) for part in fits), None)


def _reach_on(after: str, place: int, text: str) -> int | None:
    fits = (part for part in (after, after.rstrip()) if text.startswith(part, place))
    return next((place + len(part) for part in fits), None)
