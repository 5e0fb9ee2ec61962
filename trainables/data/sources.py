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
        remedy = "correct the path" if os.path.isabs(path) else f"correct the path; it counts from {os.getcwd()}"
        raise UserError(path, "data file must exist and be readable", reason(error), remedy) from error
    if stat.S_ISREG(mode):
        return True
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    raise UserError(path, "must be a data file", kind, f"name a file that ends in {', '.join(FORMATS)}")
