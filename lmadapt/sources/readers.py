"""Files read as records, row by row: JSON lines, CSV and Parquet; folders by way of documents.

A record is a mapping. A record that cannot be read is a sentence that says why, if reading can
continue after it. Memory holds one record, or one group of rows of a Parquet file.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.sources.csv_tables import csv_records, named_twice
from lmadapt.sources.documents import (
    CONVERTED,
    MAX_RECORD_BYTES,
    POINTER_PROBLEM,
    TEXTS,
    Record,
    folder_records,
    is_pointer,
)
from lmadapt.sources.records import NOT_READ, Unreadable, parse_json
from lmadapt.sources.text_lines import COMPRESSED, open_file, text_lines

ALLOWED = (
    "a .jsonl, .csv or .parquet file (also .gz or .zst), or a folder with "
    f"{', '.join((*TEXTS, *CONVERTED))} files, one document each"
)


def read_records(
    path: Path, column: str, wanted: Collection[str] | None = None
) -> Iterator[tuple[str, Record]]:
    """Location and record of each row or document.

    A document becomes {column: its text, "entity": its location}. Of Parquet only the `wanted`
    columns are read, where given; the others are Unreadable, as are values that cannot be read.
    Raises UserError naming the file, and the line or row reached, when it is missing, truncated or
    of an unknown format, or when a link leads out of the folder named.
    """
    if path.is_dir():
        return folder_records(path, column)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; allowed: {ALLOWED}")
    if is_pointer(path):
        raise UserError(f"{path}: {POINTER_PROBLEM}")
    packed = path.suffix.lower() in COMPRESSED
    kind = Path(path.stem if packed else path.name).suffix.lower()
    if kind == ".jsonl":
        return _jsonl_records(path)
    if kind == ".csv":
        return csv_records(path, wanted or ())
    if kind == ".parquet":
        return _parquet_records(path, wanted)
    raise UserError(f"{path}: cannot be read; allowed: {ALLOWED}")


def _jsonl_records(path: Path) -> Iterator[tuple[str, Record]]:
    for number, line in text_lines(path):
        if line is None:
            yield str(number), f"a line of more than {MAX_RECORD_BYTES:,} bytes"
        elif line.strip():
            yield str(number), _parse(line)


def _parse(line: str) -> Record:
    try:
        record = parse_json(line)
    except ValueError as error:
        return f"not valid JSON: {error}"
    if not isinstance(record, dict):
        return f"expected a JSON object, got {line.strip()[:60]}"
    return record


def _parquet_records(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, Record]]:
    number = 0
    try:
        with open_file(path) as stream:
            source = stream if path.suffix.lower() == ".parquet" else pa.BufferReader(stream.read())
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            twice = named_twice(names)
            kept = [name for name in dict.fromkeys(names) if wanted is None or name in wanted]
            others = dict.fromkeys(names, NOT_READ)
            for batch in file.iter_batches(batch_size=1000, columns=kept or names[:1]):
                for record in _batch_records(batch):
                    number += 1
                    yield str(number), others | record | twice
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}:{number + 1}: not a readable Parquet file: {error}") from None


def _batch_records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        columns = [column.to_pylist() for column in batch.columns]
    except (ValueError, OverflowError):  # a text that is not UTF-8, a date beyond year 9999
        columns = [list(map(_value, column)) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return Unreadable(f"cannot be read: {error}")
