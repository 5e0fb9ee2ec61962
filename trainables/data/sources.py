"""Read the records of a data source: a JSON Lines or Parquet file, or a data set of the Hugging Face hub.

A fault of one line is a `Defect` among the records; a fault of the whole file is a `UserError`.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from trainables.config.sections import FieldNames
from trainables.data.defects import JSON_LINES, Defect, reason
from trainables.data.json_lines import RawLine, Record, read_raw_lines
from trainables.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_ROWS = 256
FORMATS = (*JSON_LINES, ".parquet")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def read_raw(path: str, fields: FieldNames, split: str) -> Iterator[RawLine | Record | Defect]:
    """Yields the lines of a data source in order, JSON Lines unparsed, so that another process can parse them.

    Args:
        path: A `.jsonl`, `.jsonl.gz` or `.parquet` file, or a Hugging Face data-set id.
        fields: Names of the columns that Parquet and hub data must have.
        split: Split of a hub data set; not read for files.

    Raises:
        UserError: The file is missing, unreadable, damaged, of another format, or lacks the columns.
    """
    name = path.lower()
    if not _is_file(path):
        return _hub_records(path, fields, split)
    if name.endswith(JSON_LINES):
        return read_raw_lines(path, compressed=name.endswith(".gz"))
    if name.endswith(".parquet"):
        return _parquet_records(path, fields)
    raise UserError(path, f"data files must end in {', '.join(FORMATS)}", os.path.basename(path), "convert the file")


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
        if absent and HUB_ID.fullmatch(path) and not path.lower().endswith((*FORMATS, ".json", ".csv", ".txt", ".gz")):
            return False
        remedy = "correct the path" if os.path.isabs(path) else f"correct the path; it counts from {os.getcwd()}"
        raise UserError(path, "data file must exist and be readable", reason(error), remedy) from error
    if stat.S_ISREG(mode):
        return True
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
    raise UserError(path, "must be a data file", kind, f"name a file that ends in {', '.join(FORMATS)}")


def _check_columns(path: str, names: Iterable[str], fields: FieldNames) -> None:
    columns = list(names)
    texts = fields.messages in columns or {fields.prompt, fields.response} <= set(columns)
    if fields.id in columns and texts and len(columns) == len(set(columns)):
        return
    rule = f"must have columns {fields.id}, and {fields.messages} or {fields.prompt} and {fields.response}, each once"
    raise UserError(path, rule, ", ".join(columns) or "none", "map the names in data.fields or rename the columns")


def _parquet_records(path: str, fields: FieldNames) -> Iterator[Record | Defect]:
    import pyarrow as pa  # here: reading JSON Lines should not wait for this import
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, fields)
            line = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from _rows(path, line, batch)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from damaged column names
        remedy = "check that the file was copied whole"
        raise UserError(path, "must be a readable Parquet file", reason(error), remedy) from error


def _rows(path: str, before: int, batch: pa.RecordBatch) -> Iterator[Record | Defect]:
    try:
        for line, value in enumerate(batch.to_pylist(), start=before + 1):
            yield Record(line, value)
    except (ValueError, OverflowError) as error:
        # A value has no Python form (bad UTF-8, a date out of range). pyarrow does not say in which row, so that the
        # rows are converted one by one.
        if batch.num_rows == 1:
            rule = "not_utf8" if isinstance(error, UnicodeDecodeError) else "wrong_type"
            yield Defect(before + 1, rule, f"a value that cannot be read: {error}")
            return
        for i in range(batch.num_rows):
            yield from _rows(path, before + i, batch.slice(i, 1))


def _hub_records(path: str, fields: FieldNames, split: str) -> Iterator[Record | Defect]:
    rule = "must be a file, or a data set of the Hugging Face hub"
    try:
        # An optional dependency; by name, so that static checks do not look for it.
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        remedy = "correct the path, or for hub data sets: pip install llm-sweeps[hub]"
        raise UserError(path, rule, "no such file", remedy) from error
    try:
        data = datasets.load_dataset(path, split=split)
        _check_columns(path, data.column_names, fields)
        for line, value in enumerate(data, start=1):
            yield Record(line, value)
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(path, rule, f"split {split}: {error}", "correct the path, the id or the split") from error
