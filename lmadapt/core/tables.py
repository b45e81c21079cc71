"""The Parquet tables that pass between stages: their columns, reading and writing."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file

GROUP_ROWS = 10_000  # rows of a group, which is what is in memory at once
GROUP_CHARACTERS = 2**22  # characters of a group
_REPEATING = ["source", "entity", "category"]
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),  # unique over all tables: "<source>/<location>"
        ("text", pa.string()),
        # What the text is about, "" for nothing named; splits keep an entity on one side.
        ("entity", pa.string()),
        ("source", pa.string()),  # the source's name in params.yaml, file or package
        ("location", pa.string()),  # line, row, file or record inside the source
    ]
)

INSTRUCTION = pa.schema(
    [
        ("id", pa.string()),
        # Roles: system (first only), user, assistant. The last message is the assistant's.
        ("messages", pa.list_(MESSAGE)),
        ("category", pa.string()),
        ("entity", pa.string()),
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

ITEM = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),  # domain | general | behaviour | fairness
        ("category", pa.string()),
        # The entity that the item is about; items of one cluster are correlated.
        ("cluster", pa.string()),
        ("system", pa.string()),  # the system message before the prompt; "" for none
        ("prompt", pa.string()),  # the user's message
        # Choices of a multiple-choice item, or both texts of a fairness pair; else empty.
        ("choices", pa.list_(pa.string())),
        # Index into choices; null where no choice is right. Of a fairness pair: the text that
        # should be likelier, null where neither should.
        ("answer", pa.int32()),
        # Of a free answer: a JSON object, see lmadapt/sources/answer_checks.py; else "".
        ("check", pa.string()),
        ("severity", pa.string()),  # of behaviour: critical | major | minor; else ""
        # Of a classifier's item: the group of people that it is about, for gaps between groups;
        # else "".
        ("subgroup", pa.string()),
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

HELDOUT = pa.schema([*DOCUMENT, pa.field("group", pa.string())])  # group: domain | general

DECISION = pa.schema(
    [
        ("id", pa.string()),
        # corpus | instructions | general_text | general_instructions | evaluation
        ("role", pa.string()),
        ("outcome", pa.string()),  # kept | edited | dropped
        ("rule", pa.string()),  # the rule that decided; "" when kept unchanged
        # What the rule found: a figure with its threshold, or the matching text.
        ("evidence", pa.string()),
        ("duplicate_of", pa.string()),  # id of the document that was kept instead; else ""
        ("split", pa.string()),  # the curated table that got the document; "" when dropped
        # Hexadecimal SHA-256 of the raw text; "" for a record that could not be read.
        ("content_hash", pa.string()),
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

BAD_RECORD = pa.schema(
    [
        ("id", pa.string()),
        ("role", pa.string()),
        ("problem", pa.string()),  # file, line and what is wrong
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

RAW_TABLES = {
    "corpus": DOCUMENT,
    "general_text": DOCUMENT,
    "instructions": INSTRUCTION,
    "general_instructions": INSTRUCTION,
    "evaluation": ITEM,
}

CURATED_TABLES = {
    "corpus": DOCUMENT,
    "replay_text": DOCUMENT,
    "instructions": INSTRUCTION,
    "replay_instructions": INSTRUCTION,
    "heldout_text": HELDOUT,
    "items": ITEM,
    "decisions": DECISION,
}


def write_table(rows: Iterable[dict[str, Any]] | pa.Table, schema: pa.Schema, target: Path) -> None:
    """Write rows as a Parquet table of `schema`; the file appears whole or not at all.

    Rows that are dicts are written in groups, so that they need not be in memory together. Raises
    UserError, which names `target`, when a row does not fit the schema.
    """
    with open_table(schema, target) as write:
        for group in [rows] if isinstance(rows, pa.Table) else _grouped(rows):
            try:
                write(_as_table(group, schema))
            except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError) as error:
                names = ", ".join(schema.names)
                raise UserError(
                    f"{target}: a row does not fit the columns {names}: {error}"
                ) from None


def _as_table(rows: list[dict[str, Any]] | pa.Table, schema: pa.Schema) -> pa.Table:
    return rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=schema)


@contextmanager
def open_table(schema: pa.Schema, target: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends a group of rows; the file appears whole or not at all."""
    with (
        atomic_file(target) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=_REPEATING
        ) as writer,
    ):
        yield lambda table: writer.write_table(table.select(schema.names).cast(schema))


def _grouped(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield groups of at most GROUP_ROWS rows and of about GROUP_CHARACTERS characters."""
    group: list[dict[str, Any]] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += len(str(row.get("text") or ""))
        if len(group) >= GROUP_ROWS or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def read_table(source: Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet table, whose columns and types must be those of `schema`.

    Raises UserError, which names the file, when it is missing, no Parquet or has other columns.
    """
    with _open_checked(source, schema) as file:
        return file.read()


def read_groups(source: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the groups of rows of a table, in order; errors as in `read_table`."""
    with _open_checked(source, schema) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def count_groups(source: Path, schema: pa.Schema) -> int:
    """Return how many groups of rows a table has; errors as in `read_table`."""
    with _open_checked(source, schema) as file:
        return int(file.num_row_groups)


def read_group(source: Path, schema: pa.Schema, group: int) -> pa.Table:
    """Read the group of rows with index `group`; errors as in `read_table`."""
    with _open_checked(source, schema) as file:
        return file.read_row_group(group)


def text_bytes(table: pa.Table) -> int:
    """Return the UTF-8 bytes of a raw table's documents, messages, or questions and choices."""
    total = 0
    for name in ("text", "messages", "system", "prompt", "choices"):
        if name in table.column_names:
            column = table[name].combine_chunks()
            while not pa.types.is_string(column.type):
                column = (
                    column.field("content") if pa.types.is_struct(column.type) else column.flatten()
                )
            total += pc.sum(pc.binary_length(column)).as_py() or 0
    return total


@contextmanager
def _open_checked(source: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(source) as file:
            found = file.schema_arrow
            if not found.equals(schema, check_metadata=False):
                expected = schema.to_string()
                raise UserError(
                    f"{source}: expected the columns {expected}, found {found.to_string()}"
                )
            yield file
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; `dvc repro` makes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{source}: not a readable Parquet file: {error}") from None
