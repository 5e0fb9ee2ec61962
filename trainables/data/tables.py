"""Read the rows of tables: CSV and Parquet files, and data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import importlib
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trainables.config.data_sections import FieldNames
from trainables.data.defects import Defect, excerpt, reason
from trainables.data.forms.form_keys import DEFAULTS, columns_fit, mapping
from trainables.data.json_lines import MAX_LINE_BYTES, UTF8_MARK, Record, opened, refuse_other_formats
from trainables.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_ROWS = 256
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of such bytes
SEPARATORS = {".csv": ",", ".tsv": "\t"}
KNOWN_FORMS = (
    "prompt and response, messages, conversations, prompt and completion, instruction and output, "
    "query and response, or text"
)


def read_csv(path: str, fields: FieldNames, form: str) -> Iterator[Record | Defect]:
    """Yields the rows of a CSV file (`.tsv`: separated by tabs); blank rows may stand above the row of column names."""
    separator = SEPARATORS[path[-4:].lower()]
    with opened(path, compressed=False) as stream:
        head = stream.peek(8)[:8]  # type: ignore[attr-defined]
        refuse_other_formats(path, head)
        if head.startswith(UTF8_MARK):
            yield Defect(1, "byte_order_mark", "one")
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        csv.field_size_limit(MAX_LINE_BYTES)
        rows = csv.reader(lines, delimiter=separator, strict=True)
        try:
            names_row, columns = next(((i, row) for i, row in enumerate(rows, start=1) if row), (1, []))
        except csv.Error as error:
            remedy = "close the quotation marks, or save the table again"
            raise UserError(path, "must begin with a row of column names", str(error), remedy) from error
        if NOT_UTF8.search("".join(columns)):
            raise UserError(path, "must be UTF-8 text", "other bytes in the names of columns", "save the file as UTF-8")
        if columns:
            check_columns(path, columns, fields, form)
        for line in itertools.count(names_row + 1):
            try:
                cells = next(rows, None)
            except csv.Error as error:
                yield Defect(line, "broken_row", str(error))
                continue
            if cells is None:
                return
            if cells:
                yield _csv_row(line, columns, cells)


def _csv_row(line: int, columns: list[str], cells: list[str]) -> Record | Defect:
    if len(cells) != len(columns):
        return Defect(line, "broken_row", f"{len(cells)} cells for {len(columns)} columns")
    if broken := NOT_UTF8.search("".join(cells)):
        return Defect(line, "not_utf8", f"byte 0x{ord(broken[0]) - 0xDC00:02x}")
    return Record(line, dict(zip(columns, cells, strict=True)))


def check_columns(path: str, names: Iterable[str], fields: FieldNames, form: str) -> None:
    """Refuses a table whose columns hold no sample.

    Args:
        path: The file, for the error.
        names: The table's columns.
        fields: Names of the keys.
        form: As `data.format`.

    Raises:
        UserError: The columns are those of no form, or two have one name, or a mapped id is absent.
    """
    columns = list(names)
    has_id = fields.id in columns or fields.id == DEFAULTS.id
    if has_id and columns_fit(columns, fields, form) and len(columns) == len(set(columns)):
        return
    rule = f"must have the columns of a known form ({KNOWN_FORMS}), each once"
    if form != "auto":
        rule = f"must have the columns of data.format={form}, each once"
    if not has_id:
        rule = f"must have the column {fields.id}"
    got = ", ".join(columns) or "none"
    if len(columns) == 1 and (other := re.search(r"[;|\t,]", columns[0])):
        fits = {"\t": ".tsv", ",": ".csv"}.get(other[0])
        remedy = f"name it {fits}" if fits else "save it again as CSV with commas, or as JSON Lines"
        wanted = "commas" if other[0] != "," else "tabs"
        raise UserError(path, f"must be separated by {wanted}", excerpt(got), remedy)
    remedy = "map the names in data.fields or rename the columns"
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        remedy = f"give each column a name of its own, also {', '.join(map(excerpt, twice))}"
    elif any(name != name.strip() for name in columns):
        got, remedy = ", ".join(map(excerpt, columns)), "take the spaces around names and cells out"
    elif has_id and (hint := mapping(columns, fields)):
        remedy = f"map the names, such as {hint}"
    raise UserError(path, rule, got, remedy)


def read_parquet(path: str, fields: FieldNames, form: str) -> Iterator[Record | Defect]:
    """Yields the rows of a Parquet file."""
    import pyarrow as pa  # here: reading JSON Lines should not wait for this import
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow.names, fields, form)
            line = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS):
                yield from _rows(path, line, batch)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from damaged column names
        remedy = "check that the file was copied whole"
        raise UserError(path, "must be a readable Parquet file", reason(error), remedy) from error


def _rows(path: str, before: int, batch: pa.RecordBatch) -> Iterator[Record | Defect]:
    try:
        for line, value in enumerate(batch.to_pylist(maps_as_pydicts="strict"), start=before + 1):
            yield Record(line, _without_absent_keys(value))
    except (ValueError, OverflowError, KeyError) as error:
        # A value has no Python form (bad UTF-8, a date out of range, a map with a key twice). pyarrow does not say in
        # which row, so that the rows are converted one by one.
        if batch.num_rows == 1:
            rule = "not_utf8" if isinstance(error, UnicodeDecodeError) else "wrong_type"
            yield Defect(before + 1, rule, f"a value that cannot be read: {error}")
            return
        for i in range(batch.num_rows):
            yield from _rows(path, before + i, batch.slice(i, 1))


def _without_absent_keys(value: dict[str, Any]) -> dict[str, Any]:
    """Removes the nulls that Arrow puts into objects of a list, which all have the same keys there."""
    return {key: _pruned(part) if isinstance(part, list) else part for key, part in value.items()}


def _pruned(value: Any) -> Any:
    if isinstance(value, list):
        return [_pruned(part) for part in value]
    if isinstance(value, dict):
        return {key: _pruned(part) for key, part in value.items() if part is not None}
    return value


def read_hub(path: str, fields: FieldNames, split: str, form: str) -> Iterator[Record | Defect]:
    """Yields the rows of a data set of the Hugging Face hub.

    Args:
        path: The data set's id.
        fields: Names of the keys.
        split: Its split.
        form: As `data.format`.
    """
    rule = "must be a file, or a data set of the Hugging Face hub"
    try:
        # An optional dependency; by name, so that static checks do not look for it.
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        remedy = "correct the path, or for hub data sets: pip install llm-sweeps[hub]"
        raise UserError(path, rule, "no such file", remedy) from error
    try:
        data = datasets.load_dataset(path, split=split)
        check_columns(path, data.column_names, fields, form)
        for line, value in enumerate(data, start=1):
            yield Record(line, _without_absent_keys(value))
    except UserError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(path, rule, f"split {split}: {error}", "correct the path, the id or the split") from error
