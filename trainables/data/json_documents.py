"""Read JSON files whose samples are not one a line: an array, or objects over several lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from trainables.data.defects import Defect
from trainables.data.json_lines import (
    MAX_LINE_BYTES,
    UTF8_MARK,
    RawLine,
    opened,
    read_raw_lines,
    read_whole,
    refuse_other_formats,
)

# Ours: such a file is held in memory, where JSON Lines are read one by one.
MAX_DOCUMENT_BYTES = 2**30
# Strings are passed over whole, so that brackets in them do not count.
TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
ARRAY_OF_OBJECTS = re.compile(rb"\s*\[\s*\{")
MAY_BE_BLANK = 1024  # bytes behind an array on one line


def read_raw_json(path: str, compressed: bool) -> Iterator[RawLine | Defect]:
    """Yields the samples of a JSON file unparsed: lines of JSON Lines, elements of an array, or objects one by one.

    Elements and objects are counted from 1.

    Raises:
        UserError: As for `read_raw_lines`, or the file is no JSON Lines and too large to be held.
    """
    content = _document(path, compressed)
    if content is None:
        yield from read_raw_lines(path, compressed)
        return
    if content.startswith(UTF8_MARK):
        yield Defect(1, "byte_order_mark", "one")
    for number, raw in enumerate(_spans(content.removeprefix(UTF8_MARK)), start=1):
        yield RawLine(number, raw)


def _document(path: str, compressed: bool) -> bytes | None:
    """The whole of a file that is no JSON Lines; None for JSON Lines."""
    with opened(path, compressed) as stream:
        head = stream.readline(MAX_LINE_BYTES + 1)
        while head and not head.removeprefix(UTF8_MARK).strip():
            head = stream.readline(MAX_LINE_BYTES + 1)
        refuse_other_formats(path, head)
        if _is_line(head.removeprefix(UTF8_MARK), bool(stream.read(MAY_BE_BLANK).strip())):
            return None
        stream.seek(0)
        content = read_whole(path, stream, MAX_DOCUMENT_BYTES)
    return content if _is_document(content.removeprefix(UTF8_MARK)) else None


def _is_line(head: bytes, has_more: bool) -> bool:
    """True if the file is JSON Lines by its first line: a whole value, but no array with nothing below it."""
    if len(head) > MAX_LINE_BYTES:
        return not ARRAY_OF_OBJECTS.match(head)
    try:
        value = json.loads(head)
    except (ValueError, RecursionError):
        return not head.lstrip().startswith((b"[", b"{"))
    return not isinstance(value, list) or has_more


def _is_document(content: bytes) -> bool:
    """True for an array of objects, and for an object that takes more than one line."""
    first = next(_spans(content), b"")
    if not content.lstrip().startswith(b"[") and b"\n" not in first:
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _spans(content: bytes) -> Iterator[bytes]:
    """Yields each element of an array, or each of several objects in a row."""
    base = 1 if content.lstrip().startswith(b"[") else 0  # brackets that are open around an element
    start = len(content) - len(content.lstrip()) + base
    depth = 0
    for token in TOKEN.finditer(content):
        mark = token.group()
        depth += (mark in b"[{") - (mark in b"]}") if len(mark) == 1 else 0
        ends = (depth == 1 and mark == b",") or depth == 0 if base else depth == 0 and mark == b"}"
        if not ends:
            continue
        element = content[start : token.start() if base else token.end()].strip().removeprefix(b",").strip()
        if element:
            yield element
        start = token.end()
        if depth < base:
            break
    if rest := content[start:].strip():  # cut off, or behind the array: a defect for the parser of lines
        yield rest
