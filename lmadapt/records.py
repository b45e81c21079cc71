"""The tables that pass between stages: their columns, and reading and writing them whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lmadapt.errors import UserError
from lmadapt.files import atomic_file

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

DOCUMENT = pa.schema(
    [
        ("id", pa.string()),  # unique over all tables: "<source>/<location>"
        ("text", pa.string()),
        ("entity", pa.string()),  # what the text is about; splits keep one entity on one side; "" = none
        ("source", pa.string()),  # the source's name in params.yaml, file or package
        ("location", pa.string()),  # line, row, file or record inside the source
    ]
)

INSTRUCTION = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(MESSAGE)),  # roles system (first only), user, assistant; the last is assistant
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
        ("cluster", pa.string()),  # the entity the item is about; items of one cluster are correlated
        ("prompt", pa.string()),  # the user's message
        ("choices", pa.list_(pa.string())),  # multiple choice, or the two texts of a fairness pair; else empty
        ("answer", pa.int32()),  # index into choices; null where none is right
        ("check", pa.string()),  # where the model answers freely: JSON object, see lmadapt/answer_checks.py; else ""
        ("severity", pa.string()),  # behaviour only: critical | major | minor; "" otherwise
        ("source", pa.string()),
        ("location", pa.string()),
    ]
)

HELDOUT = pa.schema([*DOCUMENT, pa.field("group", pa.string())])  # group: domain | general

DECISION = pa.schema(
    [
        ("id", pa.string()),
        ("role", pa.string()),  # corpus | instructions | general_text | general_instructions | evaluation
        ("outcome", pa.string()),  # kept | edited | dropped
        ("rule", pa.string()),  # the rule that decided; "" when kept untouched
        ("evidence", pa.string()),  # what the rule saw: a figure with its threshold, or the matching text
        ("duplicate_of", pa.string()),  # id of the document that was kept instead; "" otherwise
        ("split", pa.string()),  # the curated table the document went to; "" when dropped
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
    """Write rows as Parquet under `schema`; the file appears whole or not at all.

    Raises UserError naming the target when a row does not fit the schema.
    """
    try:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
        table = table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError) as error:
        raise UserError(f"{target}: a row does not fit the columns {', '.join(schema.names)}: {error}") from None
    with atomic_file(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(source: Path, schema: pa.Schema) -> pa.Table:
    """Read a Parquet table and check its columns and types.

    Raises UserError naming the file when it is missing, no Parquet, or of other columns.
    """
    try:
        table = pq.read_table(source)
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{source}: not a readable Parquet file: {error}") from None
    if not table.schema.equals(schema, check_metadata=False):
        raise UserError(f"{source}: expected the columns {schema.to_string()}, found {table.schema.to_string()}")
    return table
