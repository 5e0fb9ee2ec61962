"""Read JSON Lines from files of any content.

A fault of one line is a `Defect`, a fault of the file a `UserError`. Memory is bounded: no more than `MAX_LINE_BYTES`
of a line are held. `trainables.data.json_documents` reads files whose values are not one a line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from trainables.config.defect_rules import MAX_LINE_BYTES
from trainables.data.defects import JSON_LINES, Defect, json_type, reason
from trainables.errors import UserError

MAX_NESTING = 64
SKIP_BYTES = 2**20
# Ours: gzip packs text to a third or a tenth, repeated lines to a hundredth, and a bomb to a thousandth.
MAX_EXPANSION = 200
# Below these sizes a bomb does no harm, and small files of equal lines pass.
HARMLESS_BYTES, HARMLESS_LINES = 256 * 2**20, 1_000_000
LINES_BETWEEN_CHECKS = 1024
UTF8_MARK = b"\xef\xbb\xbf"
NOT_TEXT = {
    b"\xff\xfe": "UTF-16 or UTF-32",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "gzip data",
    b"PAR1": "Parquet data",
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"\x28\xb5\x2f\xfd": "zstd data",
    b"<!": "a page of HTML",
    b"<html": "a page of HTML",
}

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
    with opened(path, compressed) as stream:
        for line, raw in _bounded_lines(path, stream):
            if line == 1:
                refuse_other_formats(path, raw or b"")
            if line == 1 and raw and raw.startswith(UTF8_MARK):
                yield Defect(line, "byte_order_mark", "one")
                raw = raw.removeprefix(UTF8_MARK)
            if raw is None:
                yield Defect(line, "line_too_long", "a longer one")
            elif raw.strip():
                yield RawLine(line, raw)


@contextmanager
def opened(path: str, compressed: bool) -> Iterator[BinaryIO]:
    """Opens a file of bytes; what fails while it is read is a `UserError` too."""
    try:
        with gzip.open(path, "rb") if compressed else open(path, "rb") as stream:
            yield stream  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        remedy = "check that the file was copied whole and that you may read it"
        raise UserError(path, "data file must be readable to its end", reason(error), remedy) from error


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


def read_whole(path: str, stream: BinaryIO, most: int) -> bytes:
    """Reads a file that is not one value a line.

    Raises:
        UserError: It is a gzip bomb, or has more than `most` bytes.
    """
    pieces = []
    while piece := stream.read(SKIP_BYTES):
        pieces.append(piece)
        _refuse_bombs(path, 1, stream)
        if len(pieces) * SKIP_BYTES > most:
            rule = f"a JSON file that is not one sample a line must be at most {most // 2**30} GiB large"
            raise UserError(path, rule, "a larger one", f"convert it: jq -c '.[]' {path} > NEW{JSON_LINES[0]}")
    return b"".join(pieces)


def _refuse_bombs(path: str, line: int, stream: BinaryIO) -> None:
    """Raises at gzip data made to fill a machine's memory, or to keep it busy."""
    if not isinstance(stream, gzip.GzipFile):
        return
    expanded, packed = stream.tell(), stream.fileobj.tell()
    if (expanded > HARMLESS_BYTES or line > HARMLESS_LINES) and expanded > MAX_EXPANSION * packed:
        got = f"{expanded / 1e6:.0f} MB from {packed / 1e6:.1f} MB"
        remedy = "check that it is the right file, or unpack it yourself"
        raise UserError(path, f"gzip data must not expand more than {MAX_EXPANSION}-fold", got, remedy)


def refuse_other_formats(path: str, head: bytes) -> None:
    """Raises at bytes that begin another format, and at lines that end with a carriage return alone."""
    for mark, kind in NOT_TEXT.items():
        if head.lstrip().startswith(mark):
            raise UserError(path, "must be UTF-8 text, as its name says", kind, "convert, rename or fetch it again")
    first, mark, rest = head.strip().partition(b"\r")
    if mark and rest.lstrip().startswith(b"{") and first.rstrip().endswith(b"}"):
        got, remedy = "carriage returns alone", f"convert it: tr '\\r' '\\n' < {path} > NEW{JSON_LINES[0]}"
        raise UserError(path, "lines must end with a line feed", got, remedy)


def parse_line(line: int, raw: bytes) -> Record | Defect:
    """Parses the object that a line holds, or returns the line's defect."""
    try:
        value = DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Defect(line, "not_utf8", f"byte 0x{raw[error.start]:02x} at byte {error.start + 1}")
    except json.JSONDecodeError as error:
        return Defect(line, "broken_json", f"{error.msg.removesuffix(' at')} at character {error.pos + 1}")
    except ValueError as error:
        many = "int_max_str_digits" in str(error)  # Python's advice would be to change Python
        return Defect(line, "broken_json", "a whole number of thousands of digits" if many else str(error))
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


# Python's default decoder silently takes the last of equal keys. NaN, which is no JSON, is what pandas writes for a
# missing value of any type: it is read as null. Infinities are let in as metadata.
DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=lambda name: None if name == "NaN" else float(name)
)


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
