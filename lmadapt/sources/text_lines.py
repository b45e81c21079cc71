"""Files as lines of text, unpacked and decoded."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyarrow as pa

from lmadapt.core.errors import UserError
from lmadapt.sources.documents import MAX_RECORD_BYTES
from lmadapt.sources.encodings import (
    SAMPLE_BYTES,
    Recoded,
    detect_encoding,
    mark_encoding,
    utf16_by_zeros,
)

COMPRESSED = (".gz", ".zst")


def open_file(path: Path) -> io.BufferedReader:
    """The bytes of a file, unpacked, without the zeros that pad a gzip archive on tapes."""
    packed = path.suffix.lower()
    if packed == ".gz":
        return cast("io.BufferedReader", gzip.GzipFile(path))
    if packed in COMPRESSED:
        return io.BufferedReader(pa.input_stream(path, compression="zstd"))
    return path.open("rb")


def _open_as_utf8(path: Path) -> io.BufferedReader:
    """A file of lines as UTF-8, without byte-order mark, whatever encoding it is in.

    UTF-16 without a mark shows by its zeros, where most characters are ASCII.
    """
    stream = open_file(path)
    start = stream.peek(4)
    mark, encoding = mark_encoding(start) or (b"", "")
    encoding = encoding or utf16_by_zeros(start[: len(start) // 2 * 2]) or "utf-8"
    stream.read(len(mark))
    if encoding != "utf-8":
        return io.BufferedReader(Recoded(stream, encoding))
    return stream


def text_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Number and text of each line; the text is None if the line is too long.

    Lines that are not UTF-8 are read in the one encoding that they all show. Where that is in
    doubt, bytes that are not UTF-8 become half characters (surrogateescape). A byte-order mark
    at the start of a later line, as files joined by `cat` have it, is left out.
    """
    number = 0
    other = None  # the encoding of lines that are not UTF-8; "" if it is in doubt
    try:
        with _open_as_utf8(path) as stream:
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
                yield number, text.removeprefix("\ufeff")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}:{number + 1}: cannot be read from here on: {error}") from None


def _other_encoding(path: Path) -> str:
    """The encoding of the lines of a file that are not UTF-8; "" if it is in doubt."""
    lines: list[bytes] = []
    room = SAMPLE_BYTES
    with _open_as_utf8(path) as stream:
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
