"""Files and folders as records, one after the other: JSON lines, CSV, Parquet; text, HTML, PDF or DOCX documents.

A record is a mapping, or a sentence that says what is wrong with it, where reading can go on behind it. Memory holds
one record, or one group of rows of a Parquet file.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError

Record = Mapping[str, Any] | str
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
TEXTS, CONVERTED = (".txt", ".md", ".html", ".htm"), (".pdf", ".docx")
ALLOWED = (
    "a .jsonl, .csv or .parquet file (also .gz or .zst), or a folder with "
    f"{', '.join((*TEXTS, *CONVERTED))} files, one document each"
)
MAX_RECORD_BYTES = (
    2**25
)  # of a line or a document: longer ones are a mistake, and would not fit into memory


def read_records(path: Path, column: str) -> Iterator[tuple[str, Record]]:
    """Location and record of each row or document; a document is {column: its text, "entity": its location}.

    Raises UserError naming the file, and the line or row reached, where it is missing, of no known format, not whole,
    or a link that leads out of the folder named.
    """
    if path.is_dir():
        return _folder_records(path, column)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; allowed: {ALLOWED}")
    kind = Path(path.stem if path.suffix in COMPRESSED else path.name).suffix
    if kind not in (
        readers := {".jsonl": _jsonl_records, ".csv": _csv_records, ".parquet": _parquet_records}
    ):
        raise UserError(f"{path}: cannot be read; allowed: {ALLOWED}")
    return readers[kind](path)


def _open(path: Path) -> BinaryIO:
    if path.suffix in COMPRESSED:
        return io.BufferedReader(pa.input_stream(path, compression=COMPRESSED[path.suffix]))
    return path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number and text of each line, None for one that is too long; bytes that are not UTF-8 become half characters."""
    number = 0
    try:
        with _open(path) as stream:
            while line := stream.readline(MAX_RECORD_BYTES + 1):
                number += 1
                too_long = len(line) > MAX_RECORD_BYTES
                while line and len(line) > MAX_RECORD_BYTES:  # read on to its end
                    line = b"" if line.endswith(b"\n") else stream.readline(MAX_RECORD_BYTES + 1)
                encoding = "utf-8-sig" if number == 1 else "utf-8"
                yield number, None if too_long else line.decode(encoding, "surrogateescape")
    except OSError as error:
        raise UserError(f"{path}:{number + 1}: cannot be read on from here: {error}") from None


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
        return f"no JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        return "no JSON: nested too deep"
    return (
        record if isinstance(record, dict) else f"expected a JSON object, got {line.strip()[:60]}"
    )


def _csv_records(path: Path) -> Iterator[tuple[str, Record]]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.DictReader(_whole_lines(path), strict=True)
    try:
        for record in reader:
            whole = None not in record and None not in record.values()
            columns = len(reader.fieldnames or ())
            yield (
                str(reader.line_num),
                record if whole else f"expected {columns} columns, as in line 1",
            )
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: no CSV: {error}") from None


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
                f"{file}: a link out of {folder}, to {file.resolve()}; name that as a source of its own"
            )
        if file.is_file() and file.suffix.lower() in (*TEXTS, *CONVERTED):
            location = file.relative_to(folder).as_posix()
            text = _document(file)
            yield (
                location,
                {column: text[0], "entity": location} if isinstance(text, tuple) else text,
            )


def _document(file: Path) -> tuple[str] | str:
    """The text of a file, in a tuple; or what is wrong with it."""
    if (size := file.stat().st_size) > MAX_RECORD_BYTES:
        return f"a document of {size:,} bytes; at most {MAX_RECORD_BYTES:,} are read"
    if file.suffix.lower() in CONVERTED:
        return _convert(file)
    text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    return (_html_text(text) if file.suffix.lower() in (".html", ".htm") else text,)


def _html_text(page: str) -> str:
    """What a page says, without its navigation (trafilatura: Barbaresi 2021)."""
    import trafilatura

    return trafilatura.extract(page, include_comments=False, favor_recall=True) or ""


def _convert(file: Path) -> tuple[str] | str:
    try:
        from markitdown import MarkItDown
    except ImportError:
        raise UserError(
            f"{file}: reading it needs the extra `documents`: pip install 'lmadapt[documents]'"
        ) from None
    try:
        text = MarkItDown().convert(str(file)).text_content
        return (
            "cannot be converted: not a whole file" if text.startswith(("%PDF", "PK")) else (text,)
        )
    except Exception as error:  # whatever the parsers of these formats raise on a broken file
        return f"cannot be converted: {type(error).__name__}: {str(error).strip()[:200]}"
