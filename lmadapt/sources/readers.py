"""Files read as records, row by row: JSON lines, CSV and Parquet; folders by way of documents.

A record is a mapping. A record that cannot be read is a sentence that says why, if reading can
continue after it. Memory holds one record, or one group of rows of a Parquet file.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.sources.documents import (
    CONVERTED,
    MAX_RECORD_BYTES,
    TEXTS,
    Record,
    folder_records,
)
from lmadapt.sources.encodings import SAMPLE_BYTES, Recoded, detect_encoding, mark_encoding
from lmadapt.sources.records import NOT_READ, TWICE, Unreadable, parse_json

COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
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
    kind = Path(path.stem if path.suffix in COMPRESSED else path.name).suffix
    if kind == ".jsonl":
        return _jsonl_records(path)
    if kind == ".csv":
        return _csv_records(path)
    if kind == ".parquet":
        return _parquet_records(path, wanted)
    raise UserError(f"{path}: cannot be read; allowed: {ALLOWED}")


def _open(path: Path) -> io.BufferedReader:
    if path.suffix in COMPRESSED:
        return io.BufferedReader(pa.input_stream(path, compression=COMPRESSED[path.suffix]))
    return path.open("rb")


def _open_text(path: Path) -> io.BufferedReader:
    """A file of lines as UTF-8 without byte-order mark, whatever encoding its mark names."""
    stream = _open(path)
    mark, encoding = mark_encoding(stream.peek(4)) or (b"", "utf-8")
    stream.read(len(mark))
    if encoding != "utf-8":
        return io.BufferedReader(Recoded(stream, encoding))
    return stream


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number and text of each line; the text is None if the line is too long.

    Lines that are not UTF-8 are read in the one encoding that they all show. Where that is in
    doubt, bytes that are not UTF-8 become half characters (surrogateescape).
    """
    number = 0
    other = None  # the encoding of lines that are not UTF-8; "" if it is in doubt
    try:
        with _open_text(path) as stream:
            while line := stream.readline(MAX_RECORD_BYTES + 1):
                number += 1
                too_long = len(line) > MAX_RECORD_BYTES
                while line and len(line) > MAX_RECORD_BYTES:  # skip to the end of the line
                    line = b"" if line.endswith(b"\n") else stream.readline(MAX_RECORD_BYTES + 1)
                if too_long:
                    yield number, None
                    continue
                try:
                    text = line.decode()
                except UnicodeDecodeError:
                    other = _other_encoding(path) if other is None else other
                    text = _decode_line(line, other)
                yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}:{number + 1}: cannot be read from here on: {error}") from None


def _other_encoding(path: Path) -> str:
    """The encoding of the lines of a file that are not UTF-8; "" if it is in doubt."""
    lines: list[bytes] = []
    room = SAMPLE_BYTES
    with _open_text(path) as stream:
        while room > 0 and (line := stream.readline(SAMPLE_BYTES)):
            try:
                line.decode()
            except UnicodeDecodeError:
                lines.append(line)
                room -= len(line)
    return detect_encoding(lines)


def _decode_line(line: bytes, other: str) -> str:
    try:
        return line.decode(other or "ascii")
    except UnicodeDecodeError:
        return line.decode("utf-8", "surrogateescape")


def _jsonl_records(path: Path) -> Iterator[tuple[str, Record]]:
    for number, line in _lines(path):
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


def _csv_records(path: Path) -> Iterator[tuple[str, Record]]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.DictReader(_whole_lines(path), strict=True)
    try:
        twice = _named_twice(reader.fieldnames or ())
        for record in reader:
            location = str(reader.line_num)
            if None in record or None in record.values():  # too many cells, or too few
                yield location, f"expected {len(reader.fieldnames or ())} columns, as in line 1"
            else:
                yield location, record | twice
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: not valid CSV: {error}") from None


def _whole_lines(path: Path) -> Iterator[str]:
    for number, line in _lines(path):
        if line is None:
            raise UserError(f"{path}:{number}: a line of more than {MAX_RECORD_BYTES:,} bytes")
        yield line


def _named_twice(names: Collection[str]) -> dict[str, Unreadable]:
    return {name: TWICE for name, count in Counter(names).items() if count > 1}


def _parquet_records(path: Path, wanted: Collection[str] | None) -> Iterator[tuple[str, Record]]:
    number = 0
    try:
        with _open(path) as stream:
            source = pa.BufferReader(stream.read()) if path.suffix in COMPRESSED else stream
            file = pq.ParquetFile(source)
            names = file.schema_arrow.names
            twice = _named_twice(names)
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
