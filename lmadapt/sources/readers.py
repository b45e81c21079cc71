"""Files and folders read as records: JSON lines, CSV, Parquet; text, HTML, PDF, DOCX documents.

A record is a mapping. A record that cannot be read is a sentence that says why, if reading can
continue after it. Memory holds one record, or one group of rows of a Parquet file.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.sources.encodings import (
    SAMPLE_BYTES,
    Recoded,
    UnknownEncoding,
    decode,
    detect_encoding,
    mark_encoding,
)

Record = Mapping[str, Any] | str
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
TEXTS, CONVERTED = (".txt", ".md", ".html", ".htm"), (".pdf", ".docx")
ALLOWED = (
    "a .jsonl, .csv or .parquet file (also .gz or .zst), or a folder with "
    f"{', '.join((*TEXTS, *CONVERTED))} files, one document each"
)
# Of a line or a document: a longer one is a mistake, and may not fit into memory.
MAX_RECORD_BYTES = 2**25


def read_records(path: Path, column: str) -> Iterator[tuple[str, Record]]:
    """Location and record of each row or document.

    A document becomes {column: its text, "entity": its location}. Raises UserError naming the
    file, and the line or row reached, when it is missing, truncated or of an unknown format, or
    when a link leads out of the folder named.
    """
    if path.is_dir():
        return _folder_records(path, column)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; allowed: {ALLOWED}")
    kind = Path(path.stem if path.suffix in COMPRESSED else path.name).suffix
    readers = {".jsonl": _jsonl_records, ".csv": _csv_records, ".parquet": _parquet_records}
    if kind not in readers:
        raise UserError(f"{path}: cannot be read; allowed: {ALLOWED}")
    return readers[kind](path)


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
        record = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        return "not valid JSON: nested too deeply"
    if not isinstance(record, dict):
        return f"expected a JSON object, got {line.strip()[:60]}"
    return record


def _csv_records(path: Path) -> Iterator[tuple[str, Record]]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.DictReader(_whole_lines(path), strict=True)
    try:
        for record in reader:
            location = str(reader.line_num)
            if None in record or None in record.values():  # too many cells, or too few
                yield location, f"expected {len(reader.fieldnames or ())} columns, as in line 1"
            else:
                yield location, record
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: not valid CSV: {error}") from None


def _whole_lines(path: Path) -> Iterator[str]:
    for number, line in _lines(path):
        if line is None:
            raise UserError(f"{path}:{number}: a line of more than {MAX_RECORD_BYTES:,} bytes")
        yield line


def _parquet_records(path: Path) -> Iterator[tuple[str, Record]]:
    number = 0
    try:
        with _open(path) as stream:
            source = pa.BufferReader(stream.read()) if path.suffix in COMPRESSED else stream
            for batch in pq.ParquetFile(source).iter_batches(batch_size=1000):
                for record in batch.to_pylist():
                    number += 1
                    yield str(number), record
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}:{number + 1}: not a readable Parquet file: {error}") from None


def _folder_records(folder: Path, column: str) -> Iterator[tuple[str, Record]]:
    for file in sorted(folder.rglob("*")):
        if not file.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"{file}: a link out of {folder}, to {file.resolve()}; "
                "name its target as a source of its own"
            )
        if file.is_file() and file.suffix.lower() in (*TEXTS, *CONVERTED):
            location = file.relative_to(folder).as_posix()
            try:
                text = _document_text(file)
            except _BadDocument as error:
                yield location, str(error)
            else:
                yield location, {column: text, "entity": location}


class _BadDocument(Exception):
    """A document that cannot be read, in a folder whose other documents can."""


def _document_text(file: Path) -> str:
    size = file.stat().st_size
    if size > MAX_RECORD_BYTES:
        raise _BadDocument(f"a document of {size:,} bytes; at most {MAX_RECORD_BYTES:,} are read")
    if file.suffix.lower() in CONVERTED:
        return _converted_text(file)
    markup = file.suffix.lower() in (".html", ".htm")
    try:
        text = decode(file.read_bytes(), markup=markup)
    except UnknownEncoding as error:
        raise _BadDocument(str(error)) from None
    return _html_text(text) if markup else text


def _html_text(page: str) -> str:
    """What a page says, without its navigation (trafilatura: Barbaresi 2021)."""
    import trafilatura

    return trafilatura.extract(page, include_comments=False, favor_recall=True) or ""


def _converted_text(file: Path) -> str:
    try:
        from markitdown import MarkItDown
    except ImportError:
        raise UserError(
            f"{file}: reading it needs the extra `documents`: pip install 'lmadapt[documents]'"
        ) from None
    try:
        text = str(MarkItDown().convert(str(file)).text_content)
    except Exception as error:  # the parsers raise anything on a broken file
        problem = f"{type(error).__name__}: {str(error).strip()[:200]}"
        raise _BadDocument(f"cannot be converted: {problem}") from None
    if text.startswith(("%PDF", "PK")):  # the converter returns the bytes it cannot parse
        raise _BadDocument("cannot be converted: the file is truncated")
    return text
