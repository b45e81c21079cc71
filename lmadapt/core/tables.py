"""The tables that pass between stages: their columns, and reading and writing them whole."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmadapt.core.errors import UserError
from lmadapt.core.files import atomic_file

GROUP_ROWS, GROUP_CHARACTERS = (
    10_000,
    2**22,
)  # of a group of rows, which is what is held in memory at once
_REPEATING = ["source", "entity", "category"]
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),  # unique over all tables: "<source>/<location>"
        ("text", pa.string()),
        (
            "entity",
            pa.string(),
        ),  # what the text is about; splits keep one entity on one side; "" = none
        ("source", pa.string()),  # the source's name in params.yaml, file or package
        ("location", pa.string()),  # line, row, file or record inside the source
    ]
)

INSTRUCTION = pa.schema(
    [
        ("id", pa.string()),
        (
            "messages",
            pa.list_(MESSAGE),
        ),  # roles system (first only), user, assistant; the last is assistant
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
        (
            "cluster",
            pa.string(),
        ),  # the entity the item is about; items of one cluster are correlated
        ("prompt", pa.string()),  # the user's message
        (
            "choices",
            pa.list_(pa.string()),
        ),  # multiple choice, or the two texts of a fairness pair; else empty
        ("answer", pa.int32()),  # index into choices; null where none is right
        (
            "check",
            pa.string(),
        ),  # where the model answers freely: JSON object, see lmadapt/sources/answer_checks.py; else ""
        ("severity", pa.string()),  # behaviour only: critical | major | minor; "" otherwise
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

HELDOUT = pa.schema([*DOCUMENT, pa.field("group", pa.string())])  # group: domain | general

DECISION = pa.schema(
    [
        ("id", pa.string()),
        (
            "role",
            pa.string(),
        ),  # corpus | instructions | general_text | general_instructions | evaluation
        ("outcome", pa.string()),  # kept | edited | dropped
        ("rule", pa.string()),  # the rule that decided; "" when kept untouched
        (
            "evidence",
            pa.string(),
        ),  # what the rule saw: a figure with its threshold, or the matching text
        ("duplicate_of", pa.string()),  # id of the document that was kept instead; "" otherwise
        ("split", pa.string()),  # the curated table the document went to; "" when dropped
        (
            "content_hash",
            pa.string(),
        ),  # hexadecimal SHA-256 of the raw text; "" of a record that could not be read
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
    """Write rows as Parquet under `schema`, a group of rows at a time; the file appears whole or not at all.

    Raises UserError naming the target when a row does not fit the schema.
    """
    groups = [rows] if isinstance(rows, pa.Table) else _grouped(rows)
    with open_table(schema, target) as write:
        for group in groups:
            try:
                write(
                    group
                    if isinstance(group, pa.Table)
                    else pa.Table.from_pylist(group, schema=schema)
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError) as error:
                names = ", ".join(schema.names)
                raise UserError(
                    f"{target}: a row does not fit the columns {names}: {error}"
                ) from None


@contextmanager
def open_table(schema: pa.Schema, target: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends rows to a Parquet file as a group; the file appears whole or not at all."""
    with (
        atomic_file(target) as temporary,
        pq.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=_REPEATING
        ) as writer,
    ):
        yield lambda table: writer.write_table(table.select(schema.names).cast(schema))


def _grouped(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in groups of at most GROUP_ROWS, and of about GROUP_CHARACTERS."""
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
    """Read a Parquet table and check its columns and types.

    Raises UserError naming the file when it is missing, no Parquet, or of other columns.
    """
    with _open_checked(source, schema) as file:
        return file.read()


def read_groups(source: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The same, one group of rows after the other."""
    with _open_checked(source, schema) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def count_groups(source: Path, schema: pa.Schema) -> int:
    """Number of groups of rows in a Parquet table."""
    with _open_checked(source, schema) as file:
        return int(file.num_row_groups)


def read_group(source: Path, schema: pa.Schema, group: int) -> pa.Table:
    """One group of rows."""
    with _open_checked(source, schema) as file:
        return file.read_row_group(group)


def text_bytes(table: pa.Table) -> int:
    """UTF-8 bytes of what is said in a raw table: documents, messages, or prompts with their choices."""
    total = 0
    for name in ("text", "messages", "prompt", "choices"):
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
            if not (found := file.schema_arrow).equals(schema, check_metadata=False):
                raise UserError(
                    f"{source}: expected the columns {schema.to_string()}, found {found.to_string()}"
                )
            yield file
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; `dvc repro` makes it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{source}: not a readable Parquet file: {error}") from None
