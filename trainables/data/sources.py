"""Read the records of a data source: a file of JSON, CSV or Parquet, or a data set of the Hugging Face hub.

A fault of one line is a `Defect` among the records; a fault of the whole file is a `UserError`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from trainables.config.data_sections import FieldNames
from trainables.data.defects import JSON_LINES, Defect, reason
from trainables.data.json_documents import read_raw_json
from trainables.data.json_lines import RawLine, Record
from trainables.data.tables import SEPARATORS, read_csv, read_hub, read_parquet
from trainables.errors import UserError

JSON = (*JSON_LINES, ".json", ".json.gz", ".ndjson")
FORMATS = (*JSON, *SEPARATORS, ".parquet")
LFS_POINTER = b"version https://git-lfs"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def read_raw(path: str, fields: FieldNames, split: str, form: str = "auto") -> Iterator[RawLine | Record | Defect]:
    """Yields the lines of a data source in order, JSON unparsed, so that another process can parse it.

    Args:
        path: A file of one of `FORMATS`, or a Hugging Face data-set id.
        fields: Names of the keys, of which tables must have the columns.
        split: Split of a hub data set; not read for files.
        form: As `data.format`.

    Raises:
        UserError: The file is missing, unreadable, damaged, of another format, or lacks the columns.
    """
    name = path.lower()
    if not _is_file(path):
        return read_hub(path, fields, split, form)
    _refuse_pointer(path)
    if name.endswith(JSON):
        return read_raw_json(path, compressed=name.endswith(".gz"))
    if name.endswith(tuple(SEPARATORS)):
        return read_csv(path, fields, form)
    if name.endswith(".parquet"):
        return read_parquet(path, fields, form)
    remedy = 'convert the file; a text becomes {"text": "…"} on a line of a .jsonl file'
    raise UserError(path, f"data files must end in {', '.join(FORMATS)}", os.path.basename(path), remedy)


def _is_file(path: str) -> bool:
    """True for a regular file, False for a name that can be a hub id.

    Raises:
        UserError: The path is neither.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        # "missing.csv" could be a hub id by its form; a user who writes it means a file.
        if absent and HUB_ID.fullmatch(path) and not path.lower().endswith((*FORMATS, ".txt", ".gz")):
            return False
        raise UserError(path, "data file must exist and be readable", reason(error), _remedy(path)) from error
    if stat.S_ISREG(mode):
        return True
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    raise UserError(path, "must be a data file", kind, f"name a file that ends in {', '.join(FORMATS)}")


def _remedy(path: str) -> str:
    """What to do about a path where nothing is."""
    if found := re.match(r"hf://datasets/([\w.-]+/[\w.-]+)", path):
        return f"write the data set's id: {found[1]}"
    if path.startswith("file://"):
        return f"write the path alone: {path.removeprefix('file://')}"
    if "://" in path:
        return "data is read from this machine and the Hugging Face hub: download the file, and name it"
    if re.search(r"[*?,]", path):
        return "name one file; several are joined by: cat FILE FILE > ALL.jsonl"
    return "correct the path" if os.path.isabs(path) else f"correct the path; it counts from {os.getcwd()}"


def _refuse_pointer(path: str) -> None:
    """Raises at a file of a repository that was cloned without its large files."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(len(LFS_POINTER))
    except OSError:
        return  # its reader says why
    if head == LFS_POINTER:
        remedy = "fetch the file itself, in its repository: git lfs pull"
        raise UserError(path, "must hold the data", "a pointer of Git LFS", remedy)
