"""CSV files as records, whatever separates their columns."""

import csv
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from lmadapt.core.errors import UserError
from lmadapt.sources.documents import MAX_RECORD_BYTES, Record
from lmadapt.sources.records import TWICE, Unreadable
from lmadapt.sources.text_lines import text_lines

SEPARATORS = ",;\t|"


def csv_records(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Record]]:
    """Last line and record of each row.

    The separator is the one with which line 1 names `wanted` columns; if none does so, the one
    that makes most columns of it. Spaces around names do not count. A row that repeats line 1, as
    files joined by `cat` have it, is left out.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _whole_lines(path)
    header = next(lines, "")
    separator = _separator(header, wanted)
    reader = csv.DictReader(
        chain([header], lines),
        strict=True,
        delimiter=separator,
        skipinitialspace=all(name[:1] == " " for name in _names(header, separator)[1:]),
    )
    try:
        names = [_bare(name, wanted) for name in reader.fieldnames or ()]
        reader.fieldnames = names
        twice = named_twice(names)
        for record in reader:
            cells = list(record.values())
            if None in record or None in cells:  # too many cells, or too few
                problem = f"expected {len(names)} columns, as in line 1"
                yield str(reader.line_num), problem
            elif twice or cells != names:
                yield str(reader.line_num), _in_order(record, names) or record | twice
    except csv.Error as error:
        raise UserError(f"{path}:{reader.reader.line_num}: not valid CSV: {error}") from None


def _in_order(record: dict[str, Any], names: list[str]) -> str:
    """What is wrong with a row that names the columns again, in another order; "" with others."""
    if len(names) > 1 and sorted(record.values()) == sorted(names):
        return "names the columns in another order than line 1; join only files of equal columns"
    return ""


def named_twice(names: Collection[str]) -> dict[str, Unreadable]:
    """What stands for the values of names that occur more than once."""
    return {name: TWICE for name, count in Counter(names).items() if count > 1}


def _bare(name: str, wanted: Collection[str]) -> str:
    return name if name in wanted else name.strip()


def _names(header: str, separator: str) -> list[str]:
    return next(csv.reader([header], delimiter=separator), [])


def _separator(header: str, wanted: Collection[str]) -> str:
    found = {separator: _names(header, separator) for separator in SEPARATORS}
    fitting = [
        separator
        for separator, names in found.items()
        if not {_bare(name, wanted) for name in names}.isdisjoint(wanted)
    ]
    return max(fitting or found, key=lambda separator: len(found[separator]))


def _whole_lines(path: Path) -> Iterator[str]:
    for number, line in text_lines(path):
        if line is None:
            raise UserError(f"{path}:{number}: a line of more than {MAX_RECORD_BYTES:,} bytes")
        yield line
