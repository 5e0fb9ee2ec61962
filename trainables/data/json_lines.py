"""Read JSON Lines from files of any content.

A fault of one line is a `Defect`, a fault of the file a `UserError`. Memory is bounded: no more than `MAX_LINE_BYTES`
of a line are held.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from trainables.config.defect_rules import MAX_LINE_BYTES
from trainables.data.defects import Defect, excerpt, json_type, reason
from trainables.errors import UserError

MAX_NESTING = 64
SKIP_BYTES = 2**20
# Ours: gzip packs text to a third or a tenth, repeated lines to a hundredth, and a bomb to a thousandth.
MAX_EXPANSION = 200
# Below these sizes a bomb does no harm, and small files of equal lines pass.
HARMLESS_BYTES, HARMLESS_LINES = 256 * 2**20, 1_000_000
LINES_BETWEEN_CHECKS = 1024
UTF8_MARK = b"\xef\xbb\xbf"
NOT_TEXT = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip data", b"PAR1": "Parquet data"}

Value = dict[str, Any]


class Record(NamedTuple):
    """An object of a data file, and its line (Parquet and hub: row), counted from 1."""

    line: int
    value: Value


class RawLine(NamedTuple):
    """An unparsed, non-blank line of a JSON Lines file, and its number, counted from 1."""

    line: int
    raw: bytes


def read_raw_lines(path: str, compressed: bool) -> Iterator[RawLine | Defect]:
    """Yields the non-blank lines of a JSON Lines file in order, for `parse_line`.

    Raises:
        UserError: The file cannot be read to its end, is not text, or is a gzip bomb.
    """
    try:
        with _open(path, compressed) as stream:
            for line, raw in _bounded_lines(path, stream):
                if line == 1:
                    _refuse_other_formats(path, raw or b"")
                if line == 1 and raw and raw.startswith(UTF8_MARK):
                    yield Defect(line, "byte_order_mark", "one")
                    raw = raw.removeprefix(UTF8_MARK)
                if raw is None:
                    yield Defect(line, "line_too_long", "a longer one")
                elif raw.strip():
                    yield RawLine(line, raw)
    except (OSError, EOFError, zlib.error) as error:
        remedy = "check that the file was copied whole and that you may read it"
        raise UserError(path, "data file must be readable to its end", reason(error), remedy) from error


def _open(path: str, compressed: bool) -> BinaryIO:
    return gzip.open(path, "rb") if compressed else open(path, "rb")  # type: ignore[return-value]


def _bounded_lines(path: str, stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yields line numbers and lines; None for a line over `MAX_LINE_BYTES`, which is skipped piece by piece."""
    line = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        line += 1
        whole = len(raw) <= MAX_LINE_BYTES or raw.endswith(b"\n")
        while not whole and (rest := stream.readline(SKIP_BYTES)):
            _refuse_bombs(path, line, stream)
            whole = rest.endswith(b"\n")
        if line % LINES_BETWEEN_CHECKS == 0:
            _refuse_bombs(path, line, stream)
        yield line, raw if len(raw) <= MAX_LINE_BYTES or raw.endswith(b"\n") else None


def _refuse_bombs(path: str, line: int, stream: BinaryIO) -> None:
    """Raises at gzip data made to fill a machine's memory, or to keep it busy."""
    if not isinstance(stream, gzip.GzipFile):
        return
    expanded, packed = stream.tell(), stream.fileobj.tell()
    if (expanded > HARMLESS_BYTES or line > HARMLESS_LINES) and expanded > MAX_EXPANSION * packed:
        got = f"{expanded / 1e6:.0f} MB from {packed / 1e6:.1f} MB"
        remedy = "check that it is the right file, or unpack it yourself"
        raise UserError(path, f"gzip data must not expand more than {MAX_EXPANSION}-fold", got, remedy)


def _refuse_other_formats(path: str, head: bytes) -> None:
    for mark, kind in NOT_TEXT.items():
        if head.startswith(mark):
            raise UserError(path, "must be UTF-8 text, one JSON object a line", kind, "convert or rename the file")


def parse_line(line: int, raw: bytes) -> Record | Defect:
    """Parses the object that a line holds, or returns the line's defect."""
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Defect(line, "not_utf8", f"byte 0x{raw[error.start]:02x} at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Defect(line, "broken_json", f"{error.msg} at character {error.pos + 1}")
    except ValueError as error:
        return Defect(line, "broken_json", str(error))
    except RecursionError:
        return Defect(line, "broken_json", f"nesting deeper than {MAX_NESTING} levels")
    if _nested_too_deep(value):
        return Defect(line, "broken_json", f"nesting deeper than {MAX_NESTING} levels")
    if not isinstance(value, dict):
        return Defect(line, "wrong_type", f"a line that is {json_type(value)}")
    return Record(line, value)


def _unique_keys(pairs: list[tuple[str, Any]]) -> Value:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object with the same key twice")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number out of range or not a number: {excerpt(text)}")
    return number


# Python's default decoder accepts NaN and Infinity, which are no JSON, and silently takes the last of equal keys.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_finite)


def _nested_too_deep(value: object) -> bool:
    # The C decoder reads deeper objects than `json.dumps` can write from a deeper call stack; so the limit is ours.
    layer = [value]
    for _ in range(MAX_NESTING + 1):
        layer = [
            child
            for node in layer
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not layer:
            return False
    return True
